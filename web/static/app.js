// app.js: which page is shown, its refreshes, and the head above it.
//
// A page is {title, every, load(ctx), render(ctx, data)}: load asks the server, render says how the page looks with
// that. The address says everything that a page needs: /d/DATABASE/PAGE/ARGUMENT?FILTERS.

import * as api from './api.js';
import { button, h, show, toast } from './dom.js';
import { handlers } from './handlers.js';
import { job } from './job.js';
import { jobs } from './jobs.js';
import { overview } from './overview.js';
import { queue } from './queue.js';
import { recent } from './recent.js';
import { schedules } from './schedules.js';
import { settings, workers } from './server.js';
import { workflow, workflows } from './workflows.js';

const PAGES = { overview, jobs, job, queue, recent, handlers, schedules, workflows, workflow, workers, settings };
const MENU = [
	['overview', 'Overview'],
	['jobs', 'Jobs'],
	['handlers', 'Handlers'],
	['schedules', 'Schedules'],
	['workflows', 'Workflows'],
	['workers', 'Workers'],
	['settings', 'Settings'],
];
// Which entry of the menu a page belongs to that has none of its own.
const PART_OF = { job: 'jobs', recent: 'jobs', queue: 'overview', workflow: 'workflows' };

const main = document.getElementById('main');
const top = document.getElementById('top');

let here = null; // the page that is shown: {page, name, ctx}
let serial = 0; // of the last refresh; an answer to an earlier one is dropped
let timer = 0;
let paused = false;
let trouble = null; // what the last refresh ran into
let dbs = [];

function link(db, page, arg, params) {
	const query = new URLSearchParams();
	for (const [key, value] of Object.entries(params || {}))
		if (value !== null && value !== undefined && value !== '') query.set(key, value);
	const text = query.toString();
	return `/d/${encodeURIComponent(db)}/${page}${arg ? `/${encodeURIComponent(arg)}` : ''}${text ? `?${text}` : ''}`;
}

function parseAddress() {
	const parts = location.pathname
		.split('/')
		.filter(Boolean)
		.map((part) => {
			try {
				return decodeURIComponent(part);
			} catch {
				return part;
			}
		});
	const db = parts[0] === 'd' && parts[1] ? parts[1] : api.session.databases[0];
	const name = parts[0] === 'd' && Object.hasOwn(PAGES, parts[2] || '') ? parts[2] : 'overview';
	return { db, name, arg: parts[3] || '', params: new URLSearchParams(location.search) };
}

function drawHead() {
	const { db, name } = here ? here.ctx : parseAddress();
	const current = PART_OF[name] || name;
	const several = api.session.databases.length > 1;
	const down = trouble && (trouble.status === 503 || trouble.status === 0);
	show(
		top,
		h(
			'div',
			{ class: 'bar' },
			h(
				'a',
				{ class: 'brand', href: link(db, 'overview') },
				h('img', { src: '/static/icon.svg', alt: '' }),
				'queue',
			),
			several
				? h(
						'select',
						{
							value: db,
							'aria-label': 'Database',
							on: { change: (event) => go(link(event.target.value, current)) },
						},
						api.session.databases.map((d) => {
							const known = dbs.find((x) => x.name === d);
							return h('option', { value: d, key: d }, known && !known.up ? `${d} (down)` : d);
						}),
					)
				: h('span', { class: 'badge', title: 'The database' }, db),
			h(
				'nav',
				{ 'aria-label': 'Pages' },
				MENU.map(([page, label]) =>
					h(
						'a',
						{ key: page, href: link(db, page), 'aria-current': page === current ? 'page' : null },
						label,
					),
				),
			),
			h(
				'div',
				{ class: 'right' },
				api.session.write
					? null
					: h(
							'span',
							{
								class: 'badge',
								title: 'queue-web was started without --write: nothing can be changed here',
							},
							'read-only',
						),
				h(
					'button',
					{
						type: 'button',
						class: `live${paused ? ' paused' : trouble ? ' off' : ''}`,
						'aria-pressed': String(!paused),
						title: paused ? 'Refresh again' : 'Stop refreshing',
						on: {
							click: () => {
								paused = !paused;
								drawHead();
								if (!paused) refresh();
							},
						},
					},
					paused ? 'Paused' : trouble ? 'No answer' : 'Live',
				),
				api.session.login
					? button(
							'Log out',
							async () => {
								await api.logout().catch(() => null);
								location.reload();
							},
							{ class: 'quiet' },
						)
					: null,
			),
		),
		trouble && here && here.data
			? h(
					'div',
					{ class: 'banner', role: 'alert', key: 'trouble' },
					down ? `${trouble.message}. What stands below is from before; it is tried again.` : trouble.message,
					trouble.hint ? ` ${trouble.hint}` : null,
				)
			: null,
	);
}

function context({ db, name, arg, params }) {
	const ctx = {
		db,
		name,
		arg,
		params,
		write: api.session.write,
		link: (page, argument, filters) => link(db, page, argument, filters),
		view: (what, filters) => api.view(db, what, filters),
		// Changes filters in the address; null takes one out.
		set: (changes, replace) => {
			const next = new URLSearchParams(params);
			for (const [key, value] of Object.entries(changes)) {
				if (value === null || value === '') next.delete(key);
				else next.set(key, value);
			}
			const text = next.toString();
			go(location.pathname + (text ? `?${text}` : ''), replace);
		},
		go,
		refresh,
		// Forgets what the page has remembered of lists, after jobs were changed.
		reset: () => {
			if (here.page.reset) here.page.reset();
		},
		// Draws again without asking: after a click that changes only what is shown.
		redraw: () => {
			if (here.data) draw();
		},
		// Does something, says so, and shows what has become of it. said: {done} -> text
		act: async (action, body, said) => {
			try {
				const data = await api.act(db, action, body);
				toast(said(data));
				ctx.reset();
				await refresh();
				return data;
			} catch (error) {
				toast(error.message + (error.hint ? `: ${error.hint}` : ''), true);
				return null;
			}
		},
	};
	return ctx;
}

function go(href, replace = false) {
	if (replace) history.replaceState(null, '', href);
	else history.pushState(null, '', href);
	navigate();
}

// On a narrow screen the menu or the tabs may have to be moved.
function reveal(within) {
	const current = within.querySelector(':is(nav, .tabs) [aria-current]');
	if (current) current.parentNode.scrollLeft = current.offsetLeft - current.parentNode.offsetLeft - 40;
}

function navigate() {
	const address = parseAddress();
	const before = here;
	const page = PAGES[address.name];
	const ctx = context(address);
	const same = before && before.page === page && before.ctx.db === ctx.db && before.ctx.arg === ctx.arg;
	here = { page, ctx, data: same ? before.data : null, moved: true };
	if (!same) {
		trouble = null;
		if (page.reset) page.reset();
		window.scrollTo(0, 0);
		if (before) main.focus({ preventScroll: true });
	}
	drawHead();
	reveal(top);
	refresh();
}

async function refresh() {
	const mine = ++serial;
	const { page, ctx } = here;
	clearTimeout(timer);
	try {
		const data = await page.load(ctx);
		if (mine !== serial) return;
		trouble = null;
		here.data = data;
	} catch (error) {
		if (mine !== serial) return;
		if (!(error instanceof api.ApiError)) throw error;
		if (error.status === 401) {
			askToken();
			return;
		}
		trouble = error;
	}
	draw();
	if (api.session.databases.length > 1)
		api.databases().then(
			(list) => {
				dbs = list;
			},
			() => null,
		);
	if (!paused && !document.hidden) timer = setTimeout(refresh, page.every || 3000);
}

function draw() {
	const { page, ctx, data } = here;
	drawHead();
	document.title = `${page.title(ctx)} · ${ctx.db} · queue`;
	const key = `${ctx.db}/${ctx.name}/${ctx.arg}`;
	if (data) {
		show(main, h('div', { key }, page.render(ctx, data)));
		if (here.moved) reveal(main);
		here.moved = false;
	} else if (trouble) {
		show(
			main,
			h(
				'div',
				{ key: 'trouble', class: 'empty' },
				h('p', { class: 'empty-title' }, trouble.message),
				trouble.hint ? h('p', null, trouble.hint) : null,
				trouble.status === 404 ? h('p', null, h('a', { href: ctx.link('overview') }, 'To the overview')) : null,
			),
		);
	}
}

function askToken() {
	show(top);
	const field = h('input', {
		type: 'password',
		autocomplete: 'current-password',
		'aria-label': 'Token',
		required: true,
	});
	const wrong = h('p', { class: 'bad' });
	show(
		main,
		h(
			'form',
			{
				class: 'card login',
				key: 'login',
				on: {
					submit: async (event) => {
						event.preventDefault();
						try {
							await api.login(field.value);
							await start();
						} catch (error) {
							wrong.textContent = error.status === 401 ? 'That is not the token.' : error.message;
						}
					},
				},
			},
			h('h1', null, 'queue'),
			h('p', { class: 'muted' }, 'The token stands in the file that queue-web was started with (--token-file).'),
			field,
			wrong,
			h('button', { type: 'submit', class: 'primary' }, 'Log in'),
		),
	);
	field.focus();
}

// Links of the page itself change the address without loading it anew.
document.addEventListener('click', (event) => {
	const a = event.target.closest && event.target.closest('a[href]');
	if (
		!a ||
		event.defaultPrevented ||
		event.button !== 0 ||
		event.metaKey ||
		event.ctrlKey ||
		event.shiftKey ||
		event.altKey
	)
		return;
	const href = a.getAttribute('href');
	if (!href.startsWith('/d/')) return;
	event.preventDefault();
	go(href);
});
window.addEventListener('popstate', navigate);
document.addEventListener('visibilitychange', () => {
	if (!document.hidden && here && !paused) refresh();
});

// g and a letter goes to a page, / to the filters, r refreshes, ? says so.
let wentG = false;
document.addEventListener('keydown', (event) => {
	if (event.target.matches('input, select, textarea') || document.querySelector('dialog[open]')) return;
	if (event.metaKey || event.ctrlKey || event.altKey || !here) return;
	const target =
		wentG &&
		MENU.find(
			([page]) =>
				page[0] === event.key ||
				(page === 'workers' && event.key === 'k') ||
				(page === 'settings' && event.key === 't'),
		);
	if (target) go(link(here.ctx.db, target[0]));
	wentG = event.key === 'g';
	if (event.key === 'r') refresh();
	if (event.key === '/') {
		const field = main.querySelector('.filters input');
		if (field) {
			event.preventDefault();
			field.focus();
		}
	}
	if (event.key === '?') toast('g then o, j, h, s, w, k, t: the pages · /: the filters · r: refresh');
});

async function start() {
	try {
		await api.readSession();
	} catch (error) {
		if (error.status === 401) askToken();
		else {
			show(main, h('div', { class: 'empty', key: 'trouble' }, h('p', { class: 'empty-title' }, error.message)));
			setTimeout(start, 2000);
		}
		return;
	}
	dbs = await api.databases().catch(() => []);
	if (location.pathname === '/') history.replaceState(null, '', link(api.session.databases[0], 'overview'));
	main.replaceChildren();
	navigate();
}

start();
