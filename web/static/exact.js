// exact.js: JSON as PostgreSQL keeps it: numbers of any length, any nesting; and its tree.
//
// JSON.parse() would make 12345678901234567890 another number, and nesting deep enough ends its recursion. Here a
// number that a double does not hold exactly as written is an Exact, objects have no prototype (a key may be
// __proto__), and nothing recurses.

import { copyButton, h, visible } from './dom.js';

export class Exact {
	constructor(text) {
		this.text = text;
	}
	toString() {
		return this.text;
	}
}

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;

function numberOf(text) {
	const n = Number(text);
	return String(n) === text ? n : new Exact(text);
}

// The end of the string that begins at `at`, its quote included.
function stringEnd(text, at) {
	let end = at;
	for (;;) {
		end = text.indexOf('"', end + 1);
		if (end < 0) throw new SyntaxError('a string has no end');
		let back = end - 1;
		while (text[back] === '\\') back--;
		if ((end - back) % 2 === 1) return end + 1;
	}
}

export function parse(text) {
	const open = []; // of each array and object that is not closed: {value, key}
	let at = 0;
	let result;
	let done = false;
	const space = () => {
		SPACE.lastIndex = at;
		SPACE.test(text);
		at = SPACE.lastIndex;
	};
	const fail = () => {
		throw new SyntaxError(`no JSON at ${at}`);
	};
	const readKey = (top) => {
		space();
		if (text[at] !== '"') fail();
		const end = stringEnd(text, at);
		top.key = JSON.parse(text.slice(at, end));
		at = end;
		space();
		if (text[at++] !== ':') fail();
	};
	const put = (value) => {
		const top = open[open.length - 1];
		if (!top) {
			result = value;
			done = true;
		} else if (top.key === null) top.value.push(value);
		else top.value[top.key] = value;
	};
	while (!done) {
		space();
		const c = text[at];
		if (c === '{' || c === '[') {
			at++;
			const top = c === '[' ? { value: [], key: null } : { value: Object.create(null), key: '' };
			space();
			if (text[at] === (c === '[' ? ']' : '}')) {
				at++;
				put(top.value);
			} else {
				open.push(top);
				if (c === '{') readKey(top);
				continue;
			}
		} else if (c === '"') {
			const end = stringEnd(text, at);
			put(JSON.parse(text.slice(at, end)));
			at = end;
		} else if (text.startsWith('true', at)) {
			put(true);
			at += 4;
		} else if (text.startsWith('false', at)) {
			put(false);
			at += 5;
		} else if (text.startsWith('null', at)) {
			put(null);
			at += 4;
		} else {
			NUMBER.lastIndex = at;
			const found = NUMBER.exec(text);
			if (!found) fail();
			put(numberOf(found[0]));
			at = NUMBER.lastIndex;
		}
		// After a value: close what ends here, or go on behind a comma.
		while (!done) {
			space();
			const top = open[open.length - 1];
			if (text[at] === ',') {
				at++;
				if (top.key !== null) readKey(top);
				break;
			}
			if (text[at] !== (top.key === null ? ']' : '}')) fail();
			at++;
			open.pop();
			put(top.value);
		}
	}
	space();
	if (at !== text.length) fail();
	return result;
}

const isObject = (v) => v !== null && typeof v === 'object' && !(v instanceof Exact);

// The JSON text of it, indented; without recursion too.
export function format(value, indent = '  ') {
	const out = [];
	const todo = [{ value, depth: 0, lead: '', tail: '' }];
	while (todo.length) {
		const item = todo.pop();
		if (item.close !== undefined) {
			out.push(item.close);
			continue;
		}
		const { value: v, depth, lead, tail } = item;
		if (!isObject(v)) {
			out.push(lead + (v instanceof Exact ? v.text : JSON.stringify(v)) + tail);
			continue;
		}
		const list = Array.isArray(v);
		const keys = list ? v : Object.keys(v);
		if (!keys.length) {
			out.push(lead + (list ? '[]' : '{}') + tail);
			continue;
		}
		// Deeper than that no reader follows, and 1,000 levels would be a megabyte of spaces.
		const pad = (n) => (indent ? '\n' + indent.repeat(Math.min(n, 40)) : '');
		out.push(lead + (list ? '[' : '{'));
		todo.push({ close: pad(depth) + (list ? ']' : '}') + tail });
		for (let i = keys.length - 1; i >= 0; i--) {
			todo.push({
				value: list ? v[i] : v[keys[i]],
				depth: depth + 1,
				tail: i < keys.length - 1 ? ',' : '',
				lead: pad(depth + 1) + (list ? '' : JSON.stringify(keys[i]) + (indent ? ': ' : ':')),
			});
		}
	}
	return out.join('');
}

// ---- the tree

const LONG = 400; // characters of a string that are shown at first
const MANY = 100; // members that are shown at first

function leaf(v) {
	if (v === null) return h('span', { class: 'j-null' }, 'null');
	if (typeof v === 'boolean') return h('span', { class: 'j-bool' }, String(v));
	if (typeof v === 'number' || v instanceof Exact) return h('span', { class: 'j-num' }, String(v));
	const quoted = (s) => h('span', { class: 'j-str' }, visible(JSON.stringify(s)));
	if (v.length <= LONG) return quoted(v);
	const box = h('span', null, quoted(v.slice(0, LONG)));
	box.append(
		' ',
		h(
			'button',
			{
				type: 'button',
				class: 'quiet',
				on: { click: () => box.replaceChildren(quoted(v)) },
			},
			`… all ${v.length.toLocaleString('en')} characters`,
		),
	);
	return box;
}

// A line of the tree. All lines are siblings, whatever their depth: a thousand elements in each other end Chromium's
// stack.
function line(depth, ...children) {
	const el = h('div', { class: 'j-line' }, children);
	el._depth = depth;
	// Deeper than that the indentation says nothing any more.
	el.style.paddingLeft = `${1.1 * Math.min(depth, 20) + 1}em`;
	return el;
}

// The lines below `after` of v's members from the first-th on; those that have few members themselves open theirs too.
function insert(after, v, depth, first = 0) {
	const list = Array.isArray(v);
	const keys = list ? null : Object.keys(v);
	const size = list ? v.length : keys.length;
	const last = Math.min(first + (first ? 10 * MANY : MANY), size);
	const lines = [];
	for (let i = first; i < last; i++) lines.push(...node(list ? v[i] : v[keys[i]], list ? null : keys[i], depth));
	if (last < size) {
		const more = line(
			depth,
			h(
				'button',
				{
					type: 'button',
					class: 'quiet',
					on: {
						click: () => {
							insert(more, v, depth, last);
							more.remove();
						},
					},
				},
				`… ${(size - last).toLocaleString('en')} more`,
			),
		);
		lines.push(more);
	}
	after.after(...lines);
}

// The line of a value, and those of its members where they are shown at first.
function node(v, key, depth) {
	const name = key === null ? null : [h('span', { class: 'j-key' }, visible(JSON.stringify(key))), ': '];
	if (!isObject(v)) return [line(depth, name, leaf(v))];
	const list = Array.isArray(v);
	const size = list ? v.length : Object.keys(v).length;
	if (!size) return [line(depth, name, list ? '[]' : '{}')];
	const fold = h(
		'button',
		{
			type: 'button',
			class: 'j-fold',
			'aria-expanded': 'false',
			on: {
				click: () => {
					const open = fold.getAttribute('aria-expanded') === 'true';
					fold.setAttribute('aria-expanded', String(!open));
					if (!open) insert(own, v, depth + 1);
					else while (own.nextSibling && own.nextSibling._depth > depth) own.nextSibling.remove();
				},
			},
		},
		name,
		list ? '[' : '{',
		h(
			'span',
			{ class: 'j-size' },
			` ${size.toLocaleString('en')} ${list ? 'element' : 'key'}${size === 1 ? '' : 's'} `,
		),
		list ? ']' : '}',
	);
	const own = line(depth, fold);
	if (depth >= 3 || size > MANY) return [own];
	fold.setAttribute('aria-expanded', 'true');
	const box = document.createDocumentFragment();
	box.append(own);
	insert(own, v, depth + 1);
	return [...box.childNodes];
}

// The value as a tree, or as text; it is left alone by refreshes until `key` changes.
export function tree(v, key) {
	let raw = false;
	const box = h('div', { class: 'json', key, once: true });
	const draw = () => {
		const text = () => format(v);
		const full = raw ? text() : '';
		box.replaceChildren(
			h(
				'div',
				{ class: 'json-tools' },
				h(
					'button',
					{
						type: 'button',
						class: 'quiet',
						on: {
							click: () => {
								raw = !raw;
								draw();
							},
						},
					},
					raw ? 'As a tree' : 'As text',
				),
				copyButton(text),
			),
			raw ? h('pre', { class: 'json-text' }, full) : h('div', { class: 'j-tree' }, node(v, null, 0)),
		);
	};
	draw();
	return box;
}
