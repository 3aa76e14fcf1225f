// dom.js: builds the page and refreshes it without flicker.
//
// Data enters the page here and nowhere else, as text nodes and attribute values. A page describes itself anew at
// each refresh; morph() changes only what differs, so that focus, scroll position, selection and what was opened
// stay. Handlers are kept on the elements and called by one listener at the document, because morph() carries them
// over.

const SVG = 'http://www.w3.org/2000/svg';

// What would change the text around it or not be seen: controls, marks of direction, spaces of no width, lone
// surrogates.
const HIDDEN = new RegExp(
	'[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e' +
		'\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]|' +
		'[\\ud800-\\udbff](?![\\udc00-\\udfff])|(?<![\\ud800-\\udbff])[\\udc00-\\udfff]',
	'g',
);

// The text with each of those written as \uXXXX.
export function visible(text) {
	return String(text).replace(HIDDEN, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
}

function append(parent, children) {
	for (const child of children) {
		if (child === null || child === undefined || child === false) continue;
		if (Array.isArray(child)) append(parent, child);
		else if (child instanceof Node) parent.append(child);
		else parent.append(document.createTextNode(visible(child)));
	}
}

function create(el, props, children) {
	el._on = {};
	for (const [name, value] of Object.entries(props || {})) {
		if (value === null || value === undefined || value === false) continue;
		if (name === 'on') el._on = value;
		else if (name === 'key') el._key = String(value);
		else if (name === 'value') el._value = String(value);
		else if (name === 'checked') el._checked = true;
		else if (name === 'once') el._once = true;
		else el.setAttribute(name, value === true ? '' : visible(value));
	}
	append(el, children);
	if (el._value !== undefined) {
		if (el.localName === 'option' || el.localName === 'progress') el.setAttribute('value', el._value);
		else el.value = el._value;
	}
	if (el.type === 'checkbox' || el.type === 'radio') {
		el._checked = !!el._checked;
		el.checked = el._checked;
	}
	return el;
}

// h('a', {href, on: {click}}, children ..): an element. key names it among its siblings; value and checked are what the
// program wants, which what the user types outlives; with once, a refresh leaves it alone.
export function h(tag, props, ...children) {
	return create(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
	return create(document.createElementNS(SVG, tag), props, children);
}

function same(a, b) {
	return a.nodeType === b.nodeType && a.nodeName === b.nodeName && a._key === b._key;
}

function morphNode(from, to) {
	if (from.nodeType === Node.TEXT_NODE) {
		if (from.data !== to.data) from.data = to.data;
		return;
	}
	if (from._once && to._once) return;
	for (const { name } of [...from.attributes]) {
		// Whether a fold is open is the user's affair.
		if (!to.hasAttribute(name) && !(name === 'open' && from.localName === 'details')) from.removeAttribute(name);
	}
	for (const { name, value } of to.attributes) {
		if (from.getAttribute(name) !== value && !(name === 'open' && from.localName === 'details'))
			from.setAttribute(name, value);
	}
	from._on = to._on;
	morphChildren(from, to);
	if (to._value !== undefined && to._value !== from._value) {
		// What is being typed stays, but not what was there before.
		const typing = from === document.activeElement && from.value !== from._value;
		from._value = to._value;
		if (from.localName !== 'option' && from.localName !== 'progress' && !typing) from.value = to._value;
	}
	if (to._checked !== undefined) from.checked = from._checked = to._checked;
}

function morphChildren(from, to) {
	const keyed = new Map();
	for (const child of from.childNodes) if (child._key !== undefined) keyed.set(child.nodeName + child._key, child);
	let at = from.firstChild;
	for (const want of [...to.childNodes]) {
		let have = at;
		if (want._key !== undefined) have = keyed.get(want.nodeName + want._key) || null;
		else while (have && have._key !== undefined) have = have.nextSibling;
		if (have && same(have, want)) {
			if (have !== at) from.insertBefore(have, at);
			else at = at.nextSibling;
			morphNode(have, want);
		} else {
			from.insertBefore(want, at);
		}
	}
	while (at) {
		const next = at.nextSibling;
		at.remove();
		at = next;
	}
}

// Makes container's children like those given.
export function show(container, ...children) {
	const wanted = document.createElement(container.localName);
	append(wanted, children);
	morphChildren(container, wanted);
}

function dispatch(event) {
	for (let el = event.target; el && el !== document; el = el.parentNode) {
		const handler = el._on && el._on[event.type];
		if (handler) {
			handler(event, el);
			return;
		}
	}
}
for (const type of ['click', 'input', 'change', 'submit', 'toggle', 'keydown'])
	document.addEventListener(type, dispatch, true);

// ---- small parts that many pages use

export function button(label, click, props = {}) {
	return h('button', { type: 'button', ...props, on: { click } }, label);
}

// The state's name beside its colour; states of jobs, handlers, schedules, workflows and workers share the list.
export function state(name, title) {
	return h('span', { class: 'state s-' + String(name).replace(/[^a-z-]/g, ''), title }, name);
}

export function empty(title, ...rest) {
	return h('div', { class: 'empty', key: 'empty' }, h('p', { class: 'empty-title' }, title), ...rest);
}

// A line that can be pasted into psql.
export function psql(text) {
	return h(
		'div',
		{ class: 'psql', key: 'psql ' + text },
		h('code', null, text),
		copyButton(() => text),
	);
}

export function copyButton(text, label = 'Copy') {
	return button(
		label,
		(event, el) => {
			const done = (said) => {
				el.textContent = said;
				setTimeout(() => {
					el.textContent = label;
				}, 1500);
			};
			// There is no clipboard on a page that came neither over TLS nor from this machine.
			if (!navigator.clipboard) done('Not allowed here');
			else
				navigator.clipboard.writeText(text()).then(
					() => done('Copied'),
					() => done('Not allowed here'),
				);
		},
		{ class: 'quiet', once: true, key: 'copy' },
	);
}

// table([{label, class}], [{key, class, cells: [..]}]): on a narrow screen each row is a card and says the labels
// again. A column that is null in every row is left out.
export function table(columns, rows, props = {}) {
	const used = columns
		.map((c, i) => i)
		.filter((i) => rows.some((row) => row.cells[i] !== null && row.cells[i] !== undefined));
	return h(
		'div',
		{ class: 'scroll', key: props.key || 'table' },
		h(
			'table',
			{ class: props.class },
			h(
				'thead',
				null,
				h(
					'tr',
					null,
					used
						.map((i) => columns[i])
						.map((c) => h('th', { class: c.class, title: c.title, scope: 'col' }, c.label)),
				),
			),
			h(
				'tbody',
				null,
				rows.map((row) =>
					h(
						'tr',
						{ key: row.key, class: row.class },
						used.map((i) =>
							h(
								'td',
								{
									class: row.cells[i] === null ? `${columns[i].class || ''} blank` : columns[i].class,
									'data-label': columns[i].name ?? columns[i].label,
								},
								row.cells[i],
							),
						),
					),
				),
			),
		),
	);
}

// ---- dialogs

// Asks; resolves to what `read` gives, or to null. body: nodes; danger: the button is red.
export function ask(title, body, action, { danger = false, read = () => true } = {}) {
	return new Promise((resolve) => {
		let answer = null;
		const yes = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, action);
		const dialog = h(
			'dialog',
			{ class: 'ask', 'aria-label': title },
			h(
				'form',
				{
					on: {
						submit: (event) => {
							event.preventDefault();
							answer = read();
							dialog.close();
						},
					},
				},
				h('h2', null, title),
				h('div', { class: 'ask-body' }, body),
				h(
					'div',
					{ class: 'ask-buttons' },
					button('Leave it', () => dialog.close()),
					yes,
				),
			),
		);
		dialog.addEventListener('close', () => {
			dialog.remove();
			resolve(answer);
		});
		document.body.append(dialog);
		dialog.showModal();
		(dialog.querySelector('input, select') || yes).focus();
	});
}

let toastTimer = 0;

// Says for some seconds what was done, or until dismissed what went wrong.
export function toast(text, bad = false) {
	const box = document.getElementById('toast');
	clearTimeout(toastTimer);
	show(
		box,
		h(
			'div',
			{ class: bad ? 'toast bad' : 'toast' },
			h('span', null, text),
			button('×', () => show(box), { 'aria-label': 'Dismiss' }),
		),
	);
	if (!bad) toastTimer = setTimeout(() => show(box), 6000);
}
