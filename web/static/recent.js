// recent.js: the jobs that ended last, also of queues that keep none.

import { empty, h, psql, state, table } from './dom.js';
import { span, when } from './format.js';

const STATES = ['', 'completed', 'discarded', 'cancelled', 'deleted'];

export const recent = {
	every: 3000,
	title: () => 'Recently ended',
	load: async (ctx) =>
		(
			await ctx.view('recent', {
				state: ctx.params.get('state'),
				queue: ctx.params.get('queue'),
				kind: ctx.params.get('kind'),
				qty: 100,
			})
		).data,
	render: (ctx, data) => [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, 'Recently ended'),
			h(
				'p',
				{ class: 'muted' },
				'also of queues that keep nothing; from memory, so a restart of the server empties it',
			),
			h('div', { class: 'actions' }, h('a', { href: ctx.link('jobs') }, 'All jobs')),
		),
		h(
			'div',
			{ class: 'tabs', role: 'navigation', 'aria-label': 'States' },
			STATES.map((s) =>
				h(
					'a',
					{
						key: s,
						href: ctx.link('recent', '', { ...Object.fromEntries(ctx.params), state: s }),
						'aria-current': (ctx.params.get('state') || '') === s ? 'page' : null,
					},
					s ? s[0].toUpperCase() + s.slice(1) : 'All',
				),
			),
		),
		data.length
			? list(ctx, data)
			: empty(
					'Nothing ended since the server started, or nothing that matches',
					psql('SELECT * FROM queue.recent_job ORDER BY finished_at DESC LIMIT 20;'),
				),
	],
};

function list(ctx, data) {
	const took = (from, to) => (from && to ? span((Date.parse(to) - Date.parse(from)) / 1000) : '–');
	const columns = [
		{ label: 'Job', class: 'full' },
		{ label: 'State' },
		{ label: 'Queue' },
		{ label: 'Ended' },
		{ label: 'Waited', class: 'num' },
		{ label: 'Ran', class: 'num' },
		{ label: 'Attempt', class: 'num' },
		{ label: 'Worker' },
		{ label: 'Error', class: 'full' },
	];
	return table(
		columns,
		data.map((j) => ({
			key: `${j.id} ${j.finished_at}`,
			cells: [
				[
					h('a', { class: 'name', href: ctx.link('job', j.id) }, j.kind),
					' ',
					h('span', { class: 'muted small' }, j.id),
				],
				state(j.state),
				h('a', { href: ctx.link('queue', '', { name: j.queue }) }, j.queue),
				when(j.finished_at),
				took(j.enqueued_at, j.started_at),
				took(j.started_at, j.finished_at),
				j.attempt === null ? '–' : j.attempt,
				j.worker || '–',
				j.error ? h('span', { class: 'error-text' }, j.error) : null,
			],
		})),
		{ class: 'jobs' },
	);
}
