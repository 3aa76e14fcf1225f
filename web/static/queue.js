// queue.js: one queue: its day as charts, and its kinds with how long they wait and run.

import { history } from './chart.js';
import { button, empty, h, psql, state, table } from './dom.js';
import { age, clock, exact, ms, plural, short, span } from './format.js';
import { loadQueues, minuteRows, pauseButton, rate, rates, redrive, remembered, deadLetters } from './overview.js';

const SPANS = [
	[60, 'hour'],
	[360, '6 hours'],
	[1440, 'day'],
];

export const queue = {
	every: 3000,
	title: (ctx) => `Queue ${ctx.params.get('name')}`,
	load: async (ctx) => {
		const name = ctx.params.get('name') || 'default';
		const minutes = Number(ctx.params.get('minutes')) || 60;
		const [stat, past, kinds] = await Promise.all([
			loadQueues(ctx),
			ctx.view('history', { queue: name, minutes }),
			ctx.view('kinds', { queue: name }),
		]);
		const q = stat.queues.find((x) => x.queue === name);
		return {
			name,
			minutes,
			at: stat.at,
			q,
			dead: q ? (await deadLetters(ctx, remembered(ctx.db), [q])).get(name) : null,
			past: past.data,
			kinds: kinds.data,
		};
	},
	render: (ctx, data) =>
		data.q
			? page(ctx, data, data.q)
			: [
					h('h1', null, data.name),
					empty(
						'There is no such queue, or this role may not read it',
						psql('SELECT * FROM queue.stat_queue;'),
					),
				],
};

function page(ctx, data, q) {
	const now = rates(ctx.db, q, data.at);
	const late = q.oldest_run_at ? (data.at - Date.parse(q.oldest_run_at)) / 1000 : 0;
	const tile = (label, value, name) =>
		h(
			'div',
			{ class: 'tile' },
			h('span', { class: 'muted small' }, label),
			name
				? h('a', { href: ctx.link('jobs', '', { queue: q.queue, state: name }) }, value)
				: h('span', null, value),
		);
	// The last minutes may be only in the overview's rows; the longer spans only in history's.
	const rows = data.minutes === 60 && !data.past.length ? minuteRows(q.minutes) : data.past;
	return [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, q.queue),
			q.paused_at ? h('span', null, state('paused', exact(q.paused_at)), ' since ', age(q.paused_at)) : null,
			h(
				'div',
				{ class: 'actions' },
				h('a', { class: 'button small', href: ctx.link('jobs', '', { queue: q.queue }) }, 'Its jobs'),
				ctx.write && data.dead ? button('Redrive …', () => redrive(ctx, q), { class: 'small' }) : null,
				pauseButton(ctx, q),
			),
		),
		h(
			'div',
			{ class: 'tiles' },
			tile('Waiting', short(q.available), 'available'),
			tile('Running', short(q.running), 'running'),
			tile('To retry', short(q.retryable), 'retryable'),
			tile('Scheduled', short(q.scheduled), 'scheduled'),
			tile('Pending', short(q.pending), 'pending'),
			tile('Oldest waits', late > 0 ? span(late) : '–'),
			tile('In', rate(now.in)),
			tile('Out', rate(now.out)),
		),
		h(
			'section',
			{ class: 'card' },
			h(
				'div',
				{ class: 'head' },
				h('h2', null, 'The last ', SPANS.find(([m]) => m === data.minutes)?.[1] || `${data.minutes} minutes`),
				h(
					'div',
					{ class: 'actions' },
					SPANS.map(([m, label]) =>
						h(
							'a',
							{
								key: label,
								class: 'button small',
								'aria-current': m === data.minutes ? 'true' : null,
								href: ctx.link('queue', '', { name: q.queue, minutes: m === 60 ? null : m }),
							},
							label,
						),
					),
				),
			),
			rows.length
				? h(
						'div',
						{ class: 'charts' },
						history(rows, data.minutes, data.at, {
							keys: [
								['enqueued', 'in, a minute'],
								['completed', 'completed, a minute'],
								['failed', 'failed attempts, a minute'],
							],
						}),
						history(rows, data.minutes, data.at, { keys: [['waiting', 'due and waiting', 'max']] }),
					)
				: h(
						'p',
						{ class: 'muted' },
						q.available === null
							? "Needs shared_preload_libraries = 'queue'."
							: 'Nothing recorded yet: the server writes a row each minute.',
					),
		),
		h('h2', null, 'Kinds'),
		data.kinds.length
			? kinds(ctx, data.kinds)
			: empty(
					'No kind of job was seen in this queue yet',
					psql(`SELECT queue.enqueue('hello', queue => '${q.queue.replace(/'/g, "''")}');`),
				),
		h(
			'p',
			{ class: 'muted small' },
			'Totals since ',
			clock(q.stats_reset),
			`: ${plural(q.enqueued, 'job')} in, ${short(q.completed)} completed, ${short(q.failed)} failed attempts, ` +
				`${short(q.discarded)} discarded, ${short(q.cancelled)} cancelled.`,
		),
	];
}

function kinds(ctx, list) {
	const columns = [
		{ label: 'Kind', class: 'full' },
		{ label: 'Waiting', class: 'num' },
		{ label: 'Running', class: 'num' },
		{ label: 'To retry', class: 'num' },
		{
			label: 'Waits (half, 95 %)',
			class: 'num',
			title: 'From when a job was due to its start: half of them waited at most so long, 95 % at most so long',
		},
		{ label: 'Runs (half, 95 %, 99 %)', class: 'num' },
		{ label: 'Completed', class: 'num' },
		{ label: 'Failed', class: 'num' },
		{ label: 'Discarded', class: 'num' },
	];
	const n = (k, name, look) =>
		h(
			'span',
			{ class: k[name] ? look || '' : 'zero' },
			['available', 'running', 'retryable', 'discarded'].includes(name)
				? h('a', { href: ctx.link('jobs', '', { queue: k.queue, kind: k.kind, state: name }) }, short(k[name]))
				: short(k[name]),
		);
	return table(
		columns,
		list.map((k) => ({
			key: k.kind,
			cells: [
				h('a', { class: 'name', href: ctx.link('jobs', '', { queue: k.queue, kind: k.kind }) }, k.kind),
				n(k, 'available'),
				n(k, 'running'),
				n(k, 'retryable'),
				h('span', { class: 'nowrap' }, `${ms(k.wait_ms_p50)} · ${ms(k.wait_ms_p95)}`),
				h('span', { class: 'nowrap' }, `${ms(k.run_ms_p50)} · ${ms(k.run_ms_p95)} · ${ms(k.run_ms_p99)}`),
				n(k, 'completed'),
				n(k, 'failed', 'warn'),
				n(k, 'discarded'),
			],
		})),
	);
}
