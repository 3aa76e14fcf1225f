// handlers.js: what runs the jobs: SQL functions and HTTP endpoints, how they fare, and pausing them.

import { ask, button, empty, h, psql, state, table } from './dom.js';
import { count, ms, short, told, when } from './format.js';

export const handlers = {
	every: 3000,
	title: () => 'Handlers',
	load: async (ctx) => {
		const [list, doctor] = await Promise.all([
			ctx.view('handlers'),
			ctx.view('doctor').catch(() => ({ data: [] })),
		]);
		return {
			list: list.data,
			parked: doctor.data.filter(
				(d) =>
					!d.ok &&
					['handler', 'endpoint', 'circuit breaker', 'search_path'].includes(d.check) &&
					!d.detail.includes(': paused since'),
			),
		};
	},
	render: (ctx, { list, parked }) => [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, 'Handlers'),
			h('p', { class: 'muted' }, 'what the server itself runs; other kinds are fetched by workers of your own'),
		),
		parked.length
			? h(
					'div',
					{ class: 'alarms', key: 'alarms' },
					parked.map((d) =>
						h(
							'div',
							{ class: 'alarm', key: d.check + d.detail },
							h(
								'div',
								{ class: 'what' },
								h('strong', null, told(d.detail)),
								d.hint ? h('p', null, d.hint) : null,
							),
						),
					),
				)
			: null,
		list.length
			? table(
					[
						{ label: 'Kind', class: 'full' },
						{ label: 'Runs', class: 'full' },
						{ label: 'State' },
						{ label: 'Running', class: 'num' },
						{ label: 'Completed', class: 'num' },
						{ label: 'Failed', class: 'num' },
						{ label: 'Discarded', class: 'num' },
						{ label: 'Timeouts', class: 'num' },
						{ label: 'Mean', class: 'num' },
						{ label: 'Longest', class: 'num' },
						{ label: 'Last error' },
						{ label: '', class: ctx.write ? 'num' : 'none' },
					],
					list.map((x) => row(ctx, x)),
				)
			: empty(
					'No handler yet',
					h('p', null, 'A function that takes a job, and its registration, in psql:'),
					psql('CREATE FUNCTION hello(j queue.job) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.1) $$;'),
					psql("SELECT queue.register_sql_handler('hello', 'hello');"),
					psql("SELECT queue.register_http_handler('order', 'https://example.com/orders');"),
				),
		list.some((x) => x.endpoints && x.endpoints.length) ? [h('h2', null, 'HTTP endpoints'), endpoints(list)] : null,
	],
};

const number = (n, look) => h('span', { class: n ? look || '' : 'zero' }, short(n));

function row(ctx, x) {
	const target = x.queues ? { kind: x.kind, queue: x.queues[0] } : { kind: x.kind };
	const flip =
		x.state === 'paused'
			? button('Resume', () => ctx.act('resume_handler', target, () => `Kind ${x.kind} runs again`), {
					class: 'small',
				})
			: button(
					'Pause',
					async () => {
						const yes = await ask(
							`Pause the handler of ${x.kind}?`,
							h('p', null, 'Its jobs stay and wait; those that run go on.'),
							'Pause',
						);
						if (yes) await ctx.act('pause_handler', target, () => `Kind ${x.kind} is paused`);
					},
					{ class: 'small' },
				);
	return {
		key: `${x.kind} ${x.queues}`,
		cells: [
			[
				h('a', { class: 'name', href: ctx.link('jobs', '', { kind: x.kind === '*' ? null : x.kind }) }, x.kind),
				h('span', { class: 'sub' }, x.queues ? `in ${x.queues.join(', ')}` : 'in every queue'),
			],
			[
				h('span', { class: 'mono' }, x.target),
				h('span', { class: 'sub' }, `${x.type === 'http' ? 'HTTP' : 'SQL function'}, as ${x.run_as}`),
			],
			state(x.state),
			number(x.running),
			number(x.completed),
			h(
				'span',
				{ class: x.failed ? 'warn' : 'zero' },
				h('a', { href: ctx.link('jobs', '', { kind: x.kind, state: 'retryable' }) }, short(x.failed)),
			),
			h(
				'span',
				{ class: x.discarded ? '' : 'zero' },
				h(
					'a',
					{
						class: x.discarded ? 'bad' : null,
						href: ctx.link('jobs', '', { kind: x.kind, state: 'discarded' }),
					},
					short(x.discarded),
				),
			),
			number(x.timeouts, 'warn'),
			ms(x.mean_ms),
			ms(x.max_ms),
			when(x.last_error_at, 'never'),
			ctx.write ? flip : null,
		],
	};
}

const BREAKER = {
	closed: 'sent to',
	open: 'nothing is sent: too many failures',
	'half-open': 'tried with one request',
};

function endpoints(list) {
	const rows = list.flatMap((x) => (x.endpoints || []).map((e) => ({ x, e })));
	return table(
		[
			{ label: 'Endpoint', class: 'full' },
			{ label: 'Kind' },
			{ label: 'Health' },
			{ label: 'Breaker' },
			{ label: 'Weight', class: 'num' },
			{ label: 'In flight', class: 'num' },
			{ label: 'Succeeded', class: 'num' },
			{ label: 'Failed', class: 'num' },
			{ label: 'In a row', class: 'num', title: 'Failures since the last success' },
			{ label: 'Mean', class: 'num' },
			{ label: 'Next probe' },
		],
		rows.map(({ x, e }) => ({
			key: `${x.kind} ${x.queues} ${e.url}`,
			cells: [
				h('span', { class: 'mono' }, e.url),
				x.kind,
				e.healthy === null ? '–' : state(e.healthy ? 'healthy' : 'down'),
				e.breaker ? state(e.breaker, BREAKER[e.breaker]) : '–',
				count(e.weight),
				number(e.in_flight),
				number(e.succeeded),
				number(e.failed, 'warn'),
				number(e.consecutive_failures, 'bad'),
				ms(e.mean_ms),
				when(e.next_probe_at),
			],
		})),
		{ key: 'endpoints' },
	);
}
