// jobs.js: the list of jobs: filters, pages by id, and what can be done with many at once.
//
// A filter that must look into each job is searched piece by piece, downwards, until the page is full.
//
// The rows of a page stand still: a refresh asks for just them, so that each tells its present state, and looks aside
// whether the list would be another now; then a button offers it.

import { bulk, verb } from './bulk.js';
import { button, empty, h, psql, state, table } from './dom.js';
import * as filters from './filter.js';
import { clock, count, plural, secondsSince, span, when } from './format.js';

const PAGE = 50;
const TABS = {
	available: 'Waiting',
	running: 'Running',
	retryable: 'To retry',
	scheduled: 'Scheduled',
	pending: 'Pending',
	discarded: 'Discarded',
	cancelled: 'Cancelled',
	completed: 'Completed',
};
// What can be done to jobs of a state, the likeliest first.
const CAN = {
	available: ['cancel_jobs', 'discard_jobs', 'move_jobs'],
	scheduled: ['retry_jobs', 'cancel_jobs', 'discard_jobs', 'move_jobs'],
	pending: ['cancel_jobs', 'discard_jobs', 'move_jobs'],
	running: ['cancel_jobs', 'discard_jobs'],
	retryable: ['retry_jobs', 'cancel_jobs', 'discard_jobs', 'move_jobs'],
	discarded: ['retry_jobs', 'delete_jobs'],
	cancelled: ['retry_jobs', 'delete_jobs'],
	completed: ['retry_jobs', 'delete_jobs'],
};
const ANY = ['retry_jobs', 'cancel_jobs', 'discard_jobs', 'move_jobs', 'delete_jobs'];

// The page that stands still: {key, ids, jobs, more, newer, searched, stopped}; searched: the id down to which it was.
let kept = null;
const picked = new Set();
let names = { at: 0, db: '', queues: [], kinds: [] }; // what the fields offer

async function offer(ctx) {
	if (names.db === ctx.db && Date.now() - names.at < 10000) return names;
	const [stat, kinds] = await Promise.all([ctx.view('overview'), ctx.view('kinds').catch(() => ({ data: [] }))]);
	names = {
		at: Date.now(),
		db: ctx.db,
		queues: stat.data.queues,
		kinds: [...new Set(kinds.data.map((k) => k.kind))].sort(),
	};
	return names;
}

async function rows(ctx, filter) {
	const after = ctx.params.get('after');
	const { data } = await ctx.view('jobs', {
		filter: filter.json,
		qty: PAGE,
		...(after ? { after } : { before: ctx.params.get('before') || 0 }),
	});
	// After an id they come upwards; the page shows the newest first.
	return { jobs: after ? [...data.jobs].reverse() : data.jobs, more: data.more, searched: data.searched };
}

// Goes on where the search stopped, until the page is full, there is nothing left or somebody stops it.
async function search(ctx, mine, filter) {
	mine.searching = true;
	while (mine === kept && mine.searched && !mine.stopped && mine.ids.length < PAGE) {
		try {
			const { data } = await ctx.view('jobs', {
				filter: filter.json,
				qty: PAGE - mine.ids.length,
				before: mine.searched,
			});
			for (const j of data.jobs) {
				if (!mine.jobs.has(j.id)) mine.ids.push(j.id);
				mine.jobs.set(j.id, j);
			}
			mine.more = data.more;
			mine.searched = data.searched;
		} catch {
			mine.stopped = true; // the next refresh tells what is wrong
		}
		if (mine === kept) ctx.redraw();
	}
	mine.searching = false;
}

async function load(ctx) {
	const filter = filters.read(ctx.params);
	const offered = await offer(ctx);
	if (Object.keys(filter.wrong).length) return { filter, offered, page: { ids: [], jobs: new Map() } };
	const key = `${ctx.db} ${filter.json} ${ctx.params.get('before')} ${ctx.params.get('after')}`;
	const fresh = await rows(ctx, filter);
	if (!kept || kept.key !== key || (!kept.ids.length && !kept.searched)) {
		if (!kept || kept.key !== key) picked.clear();
		kept = {
			key,
			ids: fresh.jobs.map((j) => j.id),
			more: fresh.more,
			jobs: new Map(fresh.jobs.map((j) => [j.id, j])),
			newer: 0,
			searched: fresh.searched,
			stopped: false,
		};
		search(ctx, kept, filter);
	} else {
		const mine = kept;
		const here = new Set(mine.ids);
		// What lies below the searched part is not new.
		mine.newer = fresh.jobs.filter(
			(j) => !here.has(j.id) && (!mine.searched || BigInt(j.id) >= BigInt(mine.searched)),
		).length;
		const ids = [...mine.ids];
		const present = ids.length
			? (await ctx.view('jobs', { filter: JSON.stringify({ ids }), qty: PAGE, before: 0 })).data.jobs
			: [];
		const now = new Map(present.map((j) => [j.id, j]));
		for (const id of ids) mine.jobs.set(id, now.get(id) || { ...mine.jobs.get(id), gone: true });
		return { filter, offered, page: mine };
	}
	return { filter, offered, page: kept };
}

export const jobs = {
	every: 3000,
	title: () => 'Jobs',
	reset: () => {
		kept = null;
		picked.clear();
		names.at = 0;
	},
	load,
	render: (ctx, { page, ...found }) =>
		draw(ctx, { ...found, ...page, jobs: page.ids.map((id) => page.jobs.get(id)), page }),
};

function draw(ctx, data) {
	return [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, 'Jobs'),
			h('p', { class: 'muted' }, data.filter.empty ? 'the newest first' : data.filter.words),
			h('div', { class: 'actions' }, h('a', { href: ctx.link('recent') }, 'Recently ended')),
		),
		tabs(ctx, data),
		form(ctx, data),
		tools(ctx, data),
		data.newer
			? h(
					'div',
					{ class: 'newer', key: 'newer' },
					button(
						`The list has changed: ${plural(data.newer, 'job')} not shown yet. Show`,
						() => {
							kept = null;
							ctx.refresh();
						},
					),
				)
			: null,
		data.jobs.length
			? list(ctx, data)
			: Object.keys(data.filter.wrong).length || data.searched
				? null
				: nothing(ctx, data),
		progress(ctx, data),
		pager(ctx, data),
	];
}

function tabs(ctx, data) {
	const now = ctx.params.get('state') || '';
	const queue = ctx.params.get('queue');
	const tab = (name, label) => {
		const params = Object.fromEntries(ctx.params);
		delete params.before;
		delete params.after;
		// The gauges know queues; with any other filter they would say something else.
		const known =
			name in CAN &&
			['available', 'running', 'retryable', 'scheduled', 'pending'].includes(name) &&
			!filters.NAMES.some((f) => f !== 'state' && f !== 'queue' && ctx.params.get(f));
		const n = data.offered.queues
			.filter((q) => !queue || q.queue === queue)
			.reduce((s, q) => s + Math.max(Number(q[name]) || 0, 0), 0);
		return h(
			'a',
			{
				key: name,
				href: ctx.link('jobs', '', { ...params, state: name }),
				'aria-current': now === name ? 'page' : null,
			},
			label,
			known && n ? h('span', { class: 'n' }, count(n)) : null,
		);
	};
	return h(
		'div',
		{ class: 'tabs', role: 'navigation', 'aria-label': 'States' },
		tab('', 'All'),
		filters.STATES.map((s) => tab(s, TABS[s])),
	);
}

function form(ctx, data) {
	const value = (name) => ctx.params.get(name) || '';
	const change = (name) => (event) => {
		const typed = event.target.value.trim();
		event.target.value = typed;
		if (typed !== value(name)) ctx.set({ [name]: typed, before: null, after: null });
	};
	const field = (name, label, props = {}) =>
		h(
			'label',
			{ key: name, class: props.wide ? 'wide' : null },
			label,
			h('input', {
				type: props.type || 'search',
				name,
				value: value(name),
				placeholder: props.placeholder,
				list: props.list,
				autocomplete: 'off',
				spellcheck: 'false',
				class: data.filter.wrong[name] ? 'wrong' : null,
				'aria-invalid': data.filter.wrong[name] ? 'true' : null,
				on: { change: change(name) },
			}),
		);
	const more = [
		'tag',
		'ids',
		'worker',
		'priority',
		'workflow',
		'group_key',
		'concurrency_key',
		'unique_key',
		...Object.keys(filters.TIMES),
	];
	const fold = h(
		'details',
		{ key: 'more' },
		h('summary', null, 'More filters'),
		h(
			'div',
			{ class: 'filters' },
			field('tag', 'Tag'),
			field('ids', 'Ids', { placeholder: '17, 18' }),
			field('enqueued_after', 'Enqueued after', { type: 'datetime-local' }),
			field('enqueued_before', 'Enqueued before', { type: 'datetime-local' }),
			field('finished_after', 'Finished after', { type: 'datetime-local' }),
			field('finished_before', 'Finished before', { type: 'datetime-local' }),
			field('worker', 'Worker'),
			field('priority', 'Priority'),
			field('workflow', 'Workflow (id)'),
			field('group_key', 'Group key'),
			field('concurrency_key', 'Concurrency key'),
			field('unique_key', 'Unique key'),
		),
	);
	if (more.some((name) => value(name))) fold.open = true;
	const used = filters.NAMES.filter((name) => name !== 'state' && value(name));
	return h(
		'form',
		{ key: 'form', role: 'search', on: { submit: (event) => event.preventDefault() } },
		h(
			'div',
			{ class: 'filters' },
			field('queue', 'Queue', { list: 'queues' }),
			field('kind', 'Kind', { list: 'kinds' }),
			field('payload', 'Payload contains', { placeholder: 'order: 17', wide: true }),
			field('error', 'Error contains', { wide: true }),
			used.length
				? h(
						'div',
						{ class: 'submit', key: 'clear' },
						button('Clear filters', () => ctx.go(ctx.link('jobs', '', { state: value('state') }))),
					)
				: null,
			Object.entries(data.filter.wrong).map(([name, message]) =>
				h('p', { class: 'field-error', role: 'alert', key: `wrong ${name}` }, message),
			),
		),
		fold,
		h(
			'datalist',
			{ id: 'queues' },
			data.offered.queues.map((q) => h('option', { value: q.queue, key: q.queue })),
		),
		h(
			'datalist',
			{ id: 'kinds' },
			data.offered.kinds.map((k) => h('option', { value: k, key: k })),
		),
	);
}

// What to do with those that were picked, or, when none is, with all that match.
function tools(ctx, data) {
	if (!ctx.write || !data.jobs.length) return null;
	const states = (ctx.params.get('state') || '').split(',').filter(Boolean);
	const some = picked.size > 0;
	const of = some ? [...new Set(data.jobs.filter((j) => picked.has(j.id)).map((j) => j.state))] : states;
	const can = of.length ? ANY.filter((a) => of.some((s) => CAN[s] && CAN[s].includes(a))) : ANY;
	const filter = some ? JSON.stringify({ ids: [...picked], ...(of.length ? { state: of } : {}) }) : data.filter.json;
	const words = some
		? picked.size > 5
			? `the ${picked.size} that you picked`
			: `the picked ${[...picked].join(', ')}`
		: data.filter.words;
	if (!some && data.filter.empty) {
		return h(
			'div',
			{ class: 'bulk', key: 'bulk' },
			h(
				'span',
				{ class: 'what muted' },
				'Pick jobs, or choose a state or a filter, to retry, cancel, move or delete them.',
			),
		);
	}
	return h(
		'div',
		{ class: 'bulk', key: 'bulk' },
		h(
			'span',
			{ class: 'what' },
			some ? h('strong', null, `${count(picked.size)} picked`) : h('strong', null, 'All that match'),
			some && !data.filter.empty
				? [
						' ',
						button(
							'Take all that match instead',
							() => {
								picked.clear();
								ctx.redraw();
							},
							{ class: 'quiet' },
						),
					]
				: null,
			some ? null : h('span', { class: 'muted' }, ', also on other pages'),
		),
		h(
			'div',
			{ class: 'actions' },
			can.map((action, i) =>
				button(
					`${verb(action)}${some ? ` ${count(picked.size)}` : ' all'} …`,
					() => bulk(ctx, action, filter, words),
					{
						key: action,
						class:
							i === 0 && action === 'retry_jobs' ? 'primary' : action === 'delete_jobs' ? 'danger' : null,
					},
				),
			),
		),
	);
}

// What the job's time is about depends on its state.
export function timing(j) {
	if (j.state === 'running')
		return ['for ', j.started_at ? h('time', { datetime: j.started_at }, span(secondsSince(j.started_at))) : '–'];
	if (j.finished_at) return when(j.finished_at);
	if (j.state === 'retryable') return ['again ', when(j.run_at)];
	if (j.state === 'scheduled') return ['due ', when(j.run_at)];
	return ['since ', clock(j.state === 'available' && j.run_at > j.enqueued_at ? j.run_at : j.enqueued_at)];
}

function list(ctx, data) {
	const toggle = (ids, on) => {
		for (const id of ids) {
			if (on) picked.add(id);
			else picked.delete(id);
		}
		ctx.redraw();
	};
	const all = data.jobs.every((j) => picked.has(j.id));
	const columns = [
		{
			label: ctx.write
				? h('input', {
						type: 'checkbox',
						checked: all,
						'aria-label': 'Pick all on this page',
						on: {
							change: () =>
								toggle(
									data.jobs.map((j) => j.id),
									!all,
								),
						},
					})
				: '',
			name: '',
			class: ctx.write ? 'pick' : 'none',
		},
		{ label: 'Job', class: 'full' },
		{ label: 'State' },
		{ label: 'Queue' },
		{ label: 'Failed', class: 'num', title: 'Failed attempts of those allowed' },
		{ label: 'When', class: 'nowrap' },
		{ label: 'Error, or payload', class: 'full' },
	];
	return table(
		columns,
		data.jobs.map((j) => ({
			key: j.id,
			class: `${picked.has(j.id) ? 'picked' : ''}${j.gone ? ' gone' : ''}`.trim() || null,
			cells: [
				ctx.write
					? h('input', {
							type: 'checkbox',
							checked: picked.has(j.id),
							'aria-label': `Pick job ${j.id}`,
							on: { change: () => toggle([j.id], !picked.has(j.id)) },
						})
					: null,
				[
					h('a', { class: 'name', href: ctx.link('job', j.id) }, j.kind),
					' ',
					h('span', { class: 'muted small nowrap' }, j.id),
					j.tags ? [' ', j.tags.map((t) => h('span', { class: 'tag' }, t))] : null,
				],
				j.gone ? h('span', { class: 'muted' }, 'gone') : state(j.state),
				j.queue,
				h('span', { class: j.failures ? '' : 'zero' }, `${j.failures} of ${j.max_attempts}`),
				j.gone ? '–' : timing(j),
				[
					j.error && j.state !== 'completed'
						? h('span', { class: 'error-text', title: j.error }, j.error.split('\n')[0])
						: null,
					h('span', { class: 'payload', title: j.payload }, j.payload),
				],
			],
		})),
		{ class: 'jobs' },
	);
}

// How far a search has come that looks into each job.
function progress(ctx, data) {
	if (!data.searched || data.jobs.length >= PAGE) return null;
	const told = `${plural(data.jobs.length, 'job')} found down to id ${count(Number(data.searched))}`;
	return h(
		'p',
		{ class: 'muted', key: 'progress', role: 'status' },
		data.stopped ? `${told}; stopped. ` : `Searching … ${told}. `,
		data.stopped
			? button(
					'Search on',
					() => {
						data.page.stopped = false;
						if (!data.page.searching) search(ctx, data.page, data.filter);
						ctx.redraw();
					},
					{ class: 'small' },
				)
			: button(
					'Stop',
					() => {
						data.page.stopped = true;
						ctx.redraw();
					},
					{ class: 'small' },
				),
	);
}

function nothing(ctx, data) {
	const now = ctx.params.get('state');
	if (data.filter.empty) {
		return empty(
			'No job yet',
			h('p', null, 'Enqueue one in psql:'),
			psql('SELECT queue.enqueue(\'hello\', \'{"name": "Ada"}\');'),
		);
	}
	const queue = (ctx.params.get('queue') || 'default').replace(/'/g, "''");
	return empty(
		'No job matches',
		now === 'completed'
			? [
					h(
						'p',
						null,
						'Completed jobs vanish unless their queue keeps them. See ',
						h('a', { href: ctx.link('recent', '', { state: 'completed' }) }, 'those that ended recently'),
						', or keep them from now on:',
					),
					psql(`SELECT queue.alter_queue('${queue}', keep_completed => '7 days');`),
				]
			: h('p', null, h('a', { href: ctx.link('jobs') }, 'Show all jobs')),
	);
}

function pager(ctx, data) {
	const { before, after } = { before: ctx.params.get('before'), after: ctx.params.get('after') };
	if (!data.jobs.length)
		return before || after
			? h(
					'div',
					{ class: 'pager', key: 'pager' },
					button('To the newest', () => ctx.set({ before: null, after: null })),
				)
			: null;
	const first = data.jobs[0].id;
	const last = data.jobs[data.jobs.length - 1].id;
	const turn = (changes) => {
		ctx.set(changes);
		window.scrollTo(0, 0);
	};
	const newer = after ? data.more : before;
	const older = after ? true : data.more;
	if (!newer && !older && !after) return null;
	return h(
		'div',
		{ class: 'pager', key: 'pager' },
		h(
			'div',
			{ class: 'actions' },
			button('‹ Newer', () => turn({ after: first, before: null }), { disabled: !newer }),
			before || after ? button('Newest', () => turn({ before: null, after: null })) : null,
		),
		h('span', { class: 'muted small' }, `${data.jobs.length} jobs, ids ${last} to ${first}`),
		button('Older ›', () => turn({ before: last, after: null }), { disabled: !older }),
	);
}
