// schedules.js: the schedules: their line in words, when they tick next, what became of the last tick.

import { inWords } from './cron.js';
import { ask, button, empty, h, psql, state, table } from './dom.js';
import { clock, count, exact, plural, when } from './format.js';

export const schedules = {
	every: 3000,
	title: () => 'Schedules',
	load: async (ctx) => (await ctx.view('schedules')).data,
	render: (ctx, data) => [
		h('div', { class: 'head' }, h('h1', null, 'Schedules')),
		data.length
			? table(
					[
						{ label: 'Schedule', class: 'full' },
						{ label: 'When', class: 'full' },
						{ label: 'Enqueues' },
						{ label: 'State' },
						{ label: 'Next ticks' },
						{ label: 'Last tick' },
						{
							label: 'Left out',
							class: 'num',
							title: 'Ticks that came too late, and ticks left out because the last job was not done',
						},
						{ label: '', class: ctx.write ? 'num' : 'none' },
					],
					data.map((s) => row(ctx, s)),
				)
			: empty(
					'No schedule yet',
					h('p', null, 'A job each morning, in psql:'),
					psql("SELECT queue.schedule('report', '0 6 * * *', 'report', timezone => 'Europe/Berlin');"),
				),
	],
};

function row(ctx, s) {
	const ticks = (s.next_ticks || []).slice(s.next_tick ? 1 : 0, 3);
	const words = inWords(s.cron);
	return {
		key: s.name,
		cells: [
			[h('span', { class: 'name' }, s.name), h('span', { class: 'sub' }, `of ${s.owner}`)],
			[
				words || h('code', null, s.cron),
				h('span', { class: 'sub' }, words ? [h('code', null, s.cron), ' · '] : null, s.timezone),
			],
			[
				h('a', { href: ctx.link('jobs', '', { kind: s.kind, queue: s.queue }) }, s.kind),
				h('span', { class: 'sub' }, `in ${s.queue}`),
			],
			[state(s.state), s.reason ? h('span', { class: 'sub' }, s.reason) : null],
			[
				when(s.next_tick, s.state === 'paused' ? 'none while paused' : 'none comes'),
				s.next_tick ? h('span', { class: 'sub' }, 'at ', clock(s.next_tick)) : null,
				ticks.length
					? h(
							'span',
							{ class: 'sub', title: ticks.map(exact).join('\n') },
							'then ',
							clock(ticks[0]),
							ticks[1] ? [', ', clock(ticks[1])] : null,
						)
					: null,
			],
			[
				when(s.last_tick, 'never'),
				s.last_job_id
					? h(
							'span',
							{ class: 'sub' },
							h('a', { href: ctx.link('job', s.last_job_id) }, `job ${s.last_job_id}`),
						)
					: null,
			],
			h(
				'span',
				{
					class: s.missed || s.skipped ? 'warn' : 'zero',
					title: `${plural(s.missed, 'tick')} too late, ${count(s.skipped)} left out`,
				},
				count(Number(s.missed) + Number(s.skipped)),
			),
			ctx.write
				? h(
						'div',
						{ class: 'actions' },
						button(
							'Run now',
							async () => {
								const yes = await ask(
									`Run ${s.name} now?`,
									h(
										'p',
										null,
										`A job of kind ${s.kind} is enqueued in ${s.queue}, beside the schedule's ticks.`,
									),
									'Run now',
								);
								if (yes)
									await ctx.act(
										'run_schedule',
										{ schedule: s.name },
										({ id }) => `Job ${id} is enqueued`,
									);
							},
							{ class: 'small', key: 'run' },
						),
						s.state === 'paused'
							? button(
									'Resume',
									() =>
										ctx.act('resume_schedule', { schedule: s.name }, () => `${s.name} ticks again`),
									{ class: 'small', key: 'resume' },
								)
							: button(
									'Pause',
									async () => {
										const yes = await ask(
											`Pause ${s.name}?`,
											h(
												'p',
												null,
												'It ticks no more until it is resumed; what it would have enqueued meanwhile is not made up for.',
											),
											'Pause',
										);
										if (yes)
											await ctx.act(
												'pause_schedule',
												{ schedule: s.name },
												() => `${s.name} is paused`,
											);
									},
									{ class: 'small', key: 'pause' },
								),
					)
				: null,
		],
	};
}
