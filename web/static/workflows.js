// workflows.js: the list of workflows and batches, and one of them as a graph.

import { MAX_NODES, graph } from './chart.js';
import { ask, button, empty, h, psql, state, svg, table } from './dom.js';
import { count, plural, span, when } from './format.js';

const STATES = ['', 'open', 'running', 'completed', 'failed', 'cancelled', 'compensating', 'compensated'];
const LAST = ['completed', 'failed', 'cancelled', 'compensated'];

const name = (w) => w.name || 'Workflow';

export const workflows = {
	every: 3000,
	title: () => 'Workflows',
	load: async (ctx) =>
		(await ctx.view('workflows', { state: ctx.params.get('state'), before: ctx.params.get('before'), qty: 50 }))
			.data,
	render: (ctx, data) => {
		const now = ctx.params.get('state') || '';
		const last = data.workflows[data.workflows.length - 1];
		return [
			h('div', { class: 'head' }, h('h1', null, 'Workflows')),
			h(
				'div',
				{ class: 'tabs', role: 'navigation', 'aria-label': 'States' },
				STATES.map((s) =>
					h(
						'a',
						{
							key: s,
							href: ctx.link('workflows', '', { state: s }),
							'aria-current': now === s ? 'page' : null,
						},
						s ? s[0].toUpperCase() + s.slice(1) : 'All',
					),
				),
			),
			data.workflows.length
				? list(ctx, data.workflows)
				: now
					? empty('No workflow is in this state')
					: empty(
							'No workflow yet',
							h('p', null, 'Two jobs, one after the other, in psql:'),
							psql(
								EXAMPLE,
							),
						),
			data.more || ctx.params.get('before')
				? h(
						'div',
						{ class: 'pager' },
						button('Newest', () => ctx.set({ before: null }), { disabled: !ctx.params.get('before') }),
						button('Older ›', () => ctx.set({ before: last.id }), { disabled: !data.more }),
					)
				: null,
		];
	},
};

const EXAMPLE =
	'SELECT * FROM queue.enqueue_workflow(\'[{"ref": "load", "kind": "load"}, ' +
	'{"ref": "mail", "kind": "mail", "depends_on": ["load"]}]\', name => \'nightly\');';

function told(w) {
	return (
		`${count(w.completed)} completed, ${count(w.unfinished)} to do, ${count(w.discarded)} discarded, ` +
		`${count(w.cancelled)} cancelled`
	);
}

// How its jobs stand, as a bar; in words beside it.
function share(w) {
	const all = Math.max(Number(w.jobs), 1);
	let x = 0;
	const part = (n, look) => {
		const width = (100 * Number(n)) / all;
		x += width;
		return width ? svg('rect', { class: look, x: x - width, y: 0, width, height: 8 }) : null;
	};
	const words = told(w);
	return svg(
		'svg',
		{ class: 'share', viewBox: '0 0 100 8', preserveAspectRatio: 'none', role: 'img', 'aria-label': words },
		svg('title', null, words),
		svg('rect', { x: 0, y: 0, width: 100, height: 8 }),
		part(w.completed, 'done'),
		part(w.discarded, 'failed'),
		part(w.cancelled, 'ended'),
	);
}

function took(w) {
	return w.finished_at ? span((Date.parse(w.finished_at) - Date.parse(w.created_at)) / 1000) : '–';
}

function list(ctx, all) {
	return table(
		[
			{ label: 'Workflow', class: 'full' },
			{ label: 'State' },
			{ label: 'Queue' },
			{ label: 'Jobs', class: 'num' },
			{ label: 'Done', class: 'full' },
			{ label: 'To do', class: 'num' },
			{ label: 'Discarded', class: 'num' },
			{ label: 'Created' },
			{ label: 'Took', class: 'num' },
		],
		all.map((w) => ({
			key: w.id,
			cells: [
				[
					h('a', { class: 'name', href: ctx.link('workflow', w.id) }, name(w)),
					' ',
					h('span', { class: 'muted small' }, w.id),
				],
				state(w.state),
				h('a', { href: ctx.link('queue', '', { name: w.queue }) }, w.queue),
				count(w.jobs),
				share(w),
				h('span', { class: Number(w.unfinished) ? '' : 'zero' }, count(w.unfinished)),
				h('span', { class: Number(w.discarded) ? 'bad' : 'zero' }, count(w.discarded)),
				when(w.created_at),
				took(w),
			],
		})),
	);
}

export const workflow = {
	every: 2000,
	title: (ctx) => `Workflow ${ctx.arg}`,
	load: async (ctx) => (await ctx.view('workflow', { id: ctx.arg })).data,
	render: (ctx, data) => {
		const w = data.workflow;
		const linked = data.jobs.some((j) => j.depends_on && j.depends_on.length);
		return [
			h(
				'div',
				{ class: 'head' },
				h('h1', null, name(w), ' ', h('span', { class: 'muted' }, w.id)),
				state(w.state),
				actions(ctx, w),
			),
			h(
				'p',
				{ class: 'muted' },
				`${plural(w.jobs, 'job')}: ${told(w)} · created `,
				when(w.created_at),
				w.finished_at ? [` · took ${took(w)}`] : null,
				' · queue ',
				h('a', { href: ctx.link('queue', '', { name: w.queue }) }, w.queue),
				w.state === 'open' ? ' · not closed yet: it can still take jobs' : null,
			),
			share(w),
			linked
				? data.jobs.length <= MAX_NODES
					? [h('h2', null, 'Graph'), graph(data.jobs, (j) => ctx.link('job', j.job_id))]
					: h(
							'p',
							{ class: 'muted' },
							`Too large to draw (${count(data.jobs.length)}${data.more ? '+' : ''} jobs); here as a list.`,
						)
				: null,
			h('h2', null, 'Jobs'),
			data.jobs.length
				? jobs(ctx, data)
				: empty('No job has joined yet', psql(`SELECT queue.enqueue('hello', workflow => ${w.id});`)),
			data.more
				? h(
						'p',
						{ class: 'muted' },
						'The first 1,000. ',
						h('a', { href: ctx.link('jobs', '', { workflow: w.id }) }, 'All that are kept'),
					)
				: null,
		];
	},
};

function jobs(ctx, data) {
	const names = new Map(data.jobs.map((j) => [j.job_id, j.ref || j.job_id]));
	return table(
		[
			{ label: 'Job', class: 'full' },
			{ label: 'Kind' },
			{ label: 'State' },
			{ label: 'Depends on', class: 'full' },
		],
		data.jobs.map((j) => ({
			key: j.job_id,
			cells: [
				[
					h('a', { class: 'name', href: ctx.link('job', j.job_id) }, j.ref || j.job_id),
					j.ref ? [' ', h('span', { class: 'muted small' }, j.job_id)] : null,
				],
				j.kind,
				state(j.state),
				j.depends_on && j.depends_on.length
					? j.depends_on.map((d, i) => [
							i ? ', ' : '',
							h('a', { href: ctx.link('job', d) }, names.get(d) || d),
						])
					: h('span', { class: 'zero' }, '–'),
			],
		})),
	);
}

function actions(ctx, w) {
	if (!ctx.write) return null;
	return h(
		'div',
		{ class: 'actions' },
		w.state === 'failed'
			? button(
					'Retry',
					() =>
						ctx.act(
							'retry_workflow',
							{ workflow: w.id },
							({ done }) =>
								`${plural(Number(done), 'job')} of the workflow tried again`,
						),
					{ class: 'primary', key: 'retry' },
				)
			: null,
		LAST.includes(w.state)
			? null
			: button(
					'Cancel …',
					async () => {
						const yes = await ask(
							`Cancel ${name(w)} ${w.id}?`,
							h(
								'p',
								null,
								`This ends ${plural(w.unfinished, 'unfinished job')}, running ones too. ` +
									'Completed jobs that name a compensation are compensated.',
							),
							'Cancel it',
							{ danger: true },
						);
						if (yes)
							await ctx.act(
								'cancel_workflow',
								{ workflow: w.id },
								({ done }) => `${plural(Number(done), 'job')} cancelled`,
							);
					},
					{ key: 'cancel' },
				),
	);
}
