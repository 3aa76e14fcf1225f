// server.js: who works on the jobs, and the server's settings.

import { empty, h, psql, state, table } from './dom.js';
import { age, count, plural, when } from './format.js';

export const workers = {
	every: 2000,
	title: () => 'Workers',
	load: async (ctx) => (await ctx.view('workers')).data,
	render: (ctx, data) => [
		h('div', { class: 'head' }, h('h1', null, 'Workers'), h('p', { class: 'muted' }, summary(data))),
		data.length
			? table(
					[
						{ label: 'Worker', class: 'full' },
						{ label: 'State' },
						{ label: 'Works on', class: 'full' },
						{ label: 'Database' },
						{ label: 'Role' },
						{ label: 'Jobs', class: 'num' },
						{ label: 'Restarts', class: 'num' },
						{ label: 'Here since' },
						{ label: 'Last seen' },
					],
					data.map((w) => ({
						key: `${w.pid} ${w.type}`,
						cells: [
							[
								h('span', { class: 'name' }, own(w) ? w.worker : names[w.type] || w.type),
								h('span', { class: 'sub' }, own(w) ? `${w.type}, pid ${w.pid}` : `pid ${w.pid}`),
							],
							w.state ? state(w.state) : '–',
							w.job_id
								? [
										h('a', { href: ctx.link('job', w.job_id) }, w.kind || 'job', ' ', w.job_id),
										w.job_started_at
											? h(
													'span',
													{ class: 'sub' },
													'for ',
													age(w.job_started_at),
													w.queue ? ` in ${w.queue}` : '',
												)
											: null,
									]
								: w.queue
									? h('span', { class: 'muted' }, w.queue)
									: null,
							w.database || '–',
							w.role || '–',
							count(w.jobs),
							h(
								'span',
								{ class: Number(w.restarts) ? 'warn' : 'zero' },
								w.restarts === null ? '–' : count(w.restarts),
							),
							when(w.started_at),
							w.last_seen ? when(w.last_seen) : null,
						],
					})),
				)
			: empty(
					'No worker is there',
					h('p', null, 'The server starts its own where the library is preloaded; in psql:'),
					psql('SELECT * FROM queue.doctor() WHERE NOT ok;'),
				),
	],
};

// A name of its own, not the one that the server gives.
const own = (w) => w.worker && w.worker !== `${w.type} ${w.pid}`;

const names = { http: 'HTTP worker', external: 'outside worker' };

function summary(data) {
	const types = new Map();
	for (const w of data) types.set(w.type, (types.get(w.type) || 0) + 1);
	return [...types].map(([type, n]) => plural(n, names[type] || type)).join(' · ');
}

export const settings = {
	every: 10000,
	title: () => 'Settings',
	load: async (ctx) => (await ctx.view('settings')).data,
	render: (ctx, data) => [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, 'Settings'),
			h('p', { class: 'muted' }, 'of the server, to be read only; those that were changed stand first'),
		),
		table(
			[{ label: 'Setting', class: 'full' }, { label: 'Value' }, { label: 'What it is', class: 'full' }],
			[...data]
				.sort((a, b) => Number(b.changed) - Number(a.changed))
				.map((s) => ({
					key: s.name,
					class: s.changed ? 'changed' : null,
					cells: [
						[
							h('span', { class: 'name mono' }, s.name),
							s.changed ? h('span', { class: 'tag' }, 'changed') : null,
						],
						h('span', { class: 'mono' }, s.value === '' ? "''" : s.value),
						s.about,
					],
				})),
		),
		h(
			'p',
			{ class: 'muted small' },
			'To change one, in psql: ',
			h('code', null, 'ALTER SYSTEM SET queue.executors = 8; SELECT pg_reload_conf();'),
		),
	],
};
