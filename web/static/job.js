// job.js: one job: why it is where it is, its payload, what its attempts did, its log, and what can be done with it.

import { act } from './api.js';
import { bulk } from './bulk.js';
import { ask, button, copyButton, h, state, toast } from './dom.js';
import { Exact, parse, tree } from './exact.js';
import { clock, count, exact, plural, secondsSince, span, told, when } from './format.js';

const FINISHED = ['completed', 'cancelled', 'discarded'];

// Whole texts of values that came clipped, by "database/id/part".
const whole = new Map();

export const job = {
	every: 2000,
	title: (ctx) => `Job ${ctx.arg}`,
	reset: () => whole.clear(),
	load: async (ctx) => {
		const { data, at } = await ctx.view('job', { id: ctx.arg });
		return { ...data, at };
	},
	render: (ctx, data) => (data.job ? page(ctx, data, data.job) : gone(ctx, data)),
};

// Of a job that its queue did not keep: what memory and the errors still tell.
function gone(ctx, data) {
	const r = data.recent;
	return [
		h(
			'div',
			{ class: 'head' },
			h('h1', null, r ? r.kind : 'Job', ' ', h('span', { class: 'muted' }, ctx.arg)),
			r ? state(r.state) : null,
		),
		h('p', { class: `why ${r ? r.state : ''}` }, data.explain || 'The job is gone: its queue keeps no such jobs.'),
		r
			? h(
					'div',
					{ class: 'card' },
					facts([
						['Queue', h('a', { href: ctx.link('queue', '', { name: r.queue }) }, r.queue)],
						['Ended', when(r.finished_at)],
						['Started', clock(r.started_at)],
						['Took', took(r.started_at, r.finished_at)],
						['Attempt', r.attempt],
						['Worker', r.worker],
						['Error', r.error],
					]),
				)
			: null,
		data.errors.length
			? [
					h('h2', null, 'Attempts'),
					h('div', { class: 'card' }, h('ol', { class: 'timeline' }, failures(data.errors))),
				]
			: null,
		log(data),
	];
}

function facts(list) {
	return h(
		'dl',
		{ class: 'facts' },
		list
			.filter(([, value]) => value !== null && value !== undefined && value !== '')
			.map(([name, value]) => [h('dt', { key: `t ${name}` }, name), h('dd', { key: `d ${name}` }, value)]),
	);
}

function took(from, to) {
	return from && to ? span((Date.parse(to) - Date.parse(from)) / 1000) : null;
}

function page(ctx, data, j) {
	const keys = [
		['group_key', 'Group'],
		['concurrency_key', 'Concurrency'],
		['unique_key', 'Unique'],
	];
	return [
		h(
			'div',
			{ class: 'head' },
			h(
				'h1',
				null,
				h('a', { href: ctx.link('jobs', '', { kind: j.kind }) }, j.kind),
				' ',
				h('span', { class: 'muted' }, j.id),
			),
			state(j.state),
			actions(ctx, j),
		),
		why(data, j),
		progress(j),
		h(
			'div',
			{ class: 'cols' },
			h(
				'div',
				null,
				value(ctx, j, 'payload', 'Payload'),
				value(ctx, j, 'result', 'Result'),
				value(ctx, j, 'progress', 'Progress'),
				h('section', { class: 'card' }, h('h2', null, 'What happened'), timeline(ctx, data, j)),
				log(data),
			),
			h(
				'aside',
				{ class: 'card', 'aria-label': 'Facts' },
				facts([
					['Queue', h('a', { href: ctx.link('queue', '', { name: j.queue }) }, j.queue)],
					['Priority', j.priority],
					['Failures', `${j.failures} of ${j.max_attempts}`],
					['Claims', j.attempt],
					['Enqueued', when(j.enqueued_at)],
					[
						j.state === 'retryable' ? 'Next try' : FINISHED.includes(j.state) ? 'Was due' : 'Due',
						when(j.run_at),
					],
					['Started', j.started_at ? when(j.started_at) : null],
					['Finished', j.finished_at ? when(j.finished_at) : null],
					['Lease ends', j.leased_until && j.state === 'running' ? when(j.leased_until) : null],
					['Expires', j.expires_at ? when(j.expires_at) : null],
					['Worker', j.worker],
					[
						'Tags',
						j.tags
							? j.tags.map((t) => h('a', { class: 'tag', href: ctx.link('jobs', '', { tag: t }) }, t))
							: null,
					],
					...keys.map(([key, name]) => [
						name,
						j[key]
							? h('a', { href: ctx.link('jobs', '', { queue: j.queue, [key]: j[key] }) }, j[key])
							: null,
					]),
					[
						'Headers',
						j.headers && j.headers.length
							? j.headers.map((name) => h('span', { class: 'tag' }, name))
							: null,
					],
					['Workflow', j.workflow ? h('a', { href: ctx.link('workflow', j.workflow) }, j.workflow) : null],
					['Came from', origin(ctx, j)],
				]),
			),
		),
	];
}

// explain_job's sentence; its reasons one below the other.
function why(data, j) {
	const text = data.explain || `${j.state}`;
	const at = text.indexOf('; waits: ');
	if (at < 0) return h('p', { class: `why ${j.state}`, key: 'why' }, told(text));
	return h(
		'div',
		{ class: `why ${j.state}`, key: 'why' },
		h('strong', null, 'It waits'),
		', ',
		told(text.slice(0, at)),
		':',
		h(
			'ul',
			null,
			text
				.slice(at + 9)
				.split('; ')
				.map((reason) => h('li', null, told(reason))),
		),
	);
}

// A number is a percentage, or a part of 1; {"done", "total"} or the like is a share.
export function share(text) {
	let v;
	try {
		v = parse(text);
	} catch {
		return null;
	}
	const number = (x) => (typeof x === 'number' ? x : x instanceof Exact ? Number(x.text) : null);
	if (number(v) !== null) return number(v) <= 1 ? number(v) : number(v) / 100;
	if (v === null || typeof v !== 'object' || Array.isArray(v)) return null;
	for (const name of ['percent', 'pct', 'progress']) if (number(v[name]) !== null) return number(v[name]) / 100;
	for (const name of ['done', 'current', 'at', 'processed']) {
		const of = ['total', 'of', 'max', 'count'].map((n) => number(v[n])).find((n) => n > 0);
		if (number(v[name]) !== null && of) return number(v[name]) / of;
	}
	return null;
}

function progress(j) {
	if (!j.progress) return null;
	const part = share(j.progress);
	if (part === null || Number.isNaN(part)) return null;
	const percent = Math.round(Math.min(Math.max(part, 0), 1) * 100);
	return h(
		'p',
		{ class: 'progress', key: 'progress' },
		h('progress', { max: 100, value: percent, 'aria-label': 'Progress' }),
		h('span', { class: 'muted small' }, `${percent} %`),
	);
}

function value(ctx, j, part, title) {
	const text = j[part];
	if (text === null || text === undefined) return null;
	const id = `${ctx.db}/${j.id}/${part}`;
	const full = whole.get(id);
	const clipped = j[`${part}_clipped`] && full === undefined;
	const size =
		part === 'payload' && j.payload_bytes
			? h('span', { class: 'muted small' }, ` ${count(j.payload_bytes)} bytes`)
			: null;
	if (clipped) {
		return h(
			'section',
			{ class: 'card', key: part },
			h('h2', null, title, size),
			h('pre', { class: 'json-text' }, text.slice(0, 2000), ' …'),
			button('Show all of it', async () => {
				try {
					whole.set(id, (await ctx.view('payload', { id: j.id, part })).data);
					ctx.redraw();
				} catch (error) {
					toast(error.message, true);
				}
			}),
		);
	}
	return h(
		'section',
		{ class: 'card', key: part },
		h('h2', null, title, size),
		jsonOrText(full === undefined ? text : full, part),
	);
}

// Built once for each text: parsing and folding survive the refreshes.
const trees = new Map();
function jsonOrText(text, part) {
	const key = `${part} ${text}`;
	if (!trees.has(key)) {
		if (trees.size > 20) trees.clear();
		let parsed;
		try {
			parsed = { value: parse(text) };
		} catch {
			parsed = null;
		}
		trees.set(key, parsed);
	}
	const parsed = trees.get(key);
	return parsed ? tree(parsed.value, key) : h('pre', { class: 'json-text' }, text);
}

// What the server says of where it came from, with links where it names a job, a workflow or a schedule.
function origin(ctx, j) {
	if (!j.origin) return null;
	let o;
	try {
		o = parse(j.origin);
	} catch {
		return j.origin;
	}
	if (o === null || typeof o !== 'object') return j.origin;
	const list = [];
	const id = (x) => (typeof x === 'number' || x instanceof Exact ? String(x) : null);
	const others = [];
	for (const [key, v] of Object.entries(o)) {
		if (['id', 'job', 'job_id', 'parent', 'successor_of'].includes(key) && id(v))
			list.push(['job ', h('a', { href: ctx.link('job', id(v)) }, id(v))]);
		else if (key === 'workflow' && id(v))
			list.push(['workflow ', h('a', { href: ctx.link('workflow', id(v)) }, id(v))]);
		else if (key === 'schedule') list.push(['schedule ', h('a', { href: ctx.link('schedules') }, String(v))]);
		else if (v === null || typeof v !== 'object') others.push(`${key} ${v}`);
	}
	return h(
		'span',
		null,
		list.map((part, i) => [i ? ', ' : '', part]),
		list.length && others.length ? h('span', { class: 'sub' }, others.join(', ')) : others.join(', '),
	);
}

// newer: the attempt after it; what that one has said already is not said again.
function failed(e, newer) {
	const code = [
		e.sqlstate ? `SQLSTATE ${e.sqlstate}` : null,
		e.http_status ? `HTTP ${e.http_status}` : null,
		e.worker,
	]
		.filter(Boolean)
		.join(' · ');
	const again =
		newer && newer.error === e.error && newer.sqlstate === e.sqlstate && newer.http_status === e.http_status;
	return h(
		'li',
		{ class: 't-failed', key: `attempt ${e.attempt} ${e.failed_at}` },
		h(
			'div',
			null,
			h('strong', null, `Attempt ${e.attempt} failed`),
			' ',
			when(e.failed_at),
			e.started_at ? h('span', { class: 'muted' }, ` after ${took(e.started_at, e.failed_at)}`) : null,
			again ? h('span', { class: 'muted', title: e.error }, ', with the same error') : null,
		),
		again
			? null
			: [
					h('div', { class: 'error-text' }, e.error),
					code ? h('div', { class: 'muted small' }, code) : null,
					e.context
						? h(
								'details',
								null,
								h('summary', { class: 'muted small' }, 'Context'),
								h('pre', { class: 'small' }, e.context),
							)
						: null,
				],
	);
}

// The newest first.
function failures(errors) {
	return errors.map((e, i) => failed(e, errors[i + 1])).reverse();
}

function timeline(ctx, data, j) {
	const items = [h('li', { key: 'enqueued' }, h('strong', null, 'Enqueued'), ' ', when(j.enqueued_at))];
	const errors = data.errors;
	const missing = j.failures - errors.length;
	if (missing > 0)
		items.push(
			h(
				'li',
				{ class: 't-failed', key: 'missing' },
				h('span', { class: 'muted' }, `${plural(missing, 'earlier failure')} not kept`),
			),
		);
	items.push(failures(errors).reverse());
	if (j.state === 'running') {
		items.push(
			h(
				'li',
				{ class: 't-running', key: 'running' },
				h('strong', null, `Attempt ${j.attempt} runs`),
				j.started_at ? ` since ${span(secondsSince(j.started_at))}` : '',
				j.worker ? h('span', { class: 'muted' }, ` in ${j.worker}`) : null,
			),
		);
	} else if (j.state === 'retryable') {
		items.push(
			h(
				'li',
				{ class: 't-next', key: 'next' },
				h('strong', null, 'Next try'),
				' ',
				when(j.run_at),
				h(
					'span',
					{ class: 'muted' },
					`, ${plural(Math.max(j.max_attempts - j.failures, 0), 'try', 'tries')} left`,
				),
			),
		);
	} else if (FINISHED.includes(j.state)) {
		const words = {
			completed: `Attempt ${j.attempt} completed`,
			cancelled: 'Cancelled',
			discarded: 'Discarded: given up',
		}[j.state];
		// Of a discarded job the last attempt has said it already.
		const reason =
			j.error && !(errors.length && errors[errors.length - 1].error === j.error) && j.state !== 'completed'
				? h('div', { class: 'error-text' }, j.error)
				: null;
		items.push(
			h(
				'li',
				{ class: `t-${j.state}`, key: 'end' },
				h('strong', null, words),
				' ',
				when(j.finished_at),
				j.state === 'completed' && j.started_at
					? h('span', { class: 'muted' }, ` after ${took(j.started_at, j.finished_at)}`)
					: null,
				reason,
			),
		);
	} else {
		items.push(
			h(
				'li',
				{ class: 't-next', key: 'next' },
				h('strong', null, j.state === 'scheduled' ? 'Due' : 'Waits'),
				' ',
				j.state === 'scheduled' ? when(j.run_at) : '',
			),
		);
	}
	return h('ol', { class: 'timeline' }, items.flat().reverse());
}

function log(data) {
	if (!data.log.length) return null;
	const colour = { error: 'bad', warning: 'warn', debug: 'muted' };
	return h(
		'section',
		{ class: 'card', key: 'log' },
		h(
			'h2',
			null,
			'Log',
			' ',
			copyButton(() => data.log.map((l) => `${l.logged_at} ${l.attempt} ${l.level} ${l.message}`).join('\n')),
		),
		h(
			'div',
			{ class: 'log', tabindex: 0, role: 'region', 'aria-label': 'Log' },
			h(
				'table',
				null,
				h(
					'tbody',
					null,
					data.log.map((l, i) =>
						h(
							'tr',
							{ key: `${l.logged_at} ${i}` },
							h('td', { class: 'muted nowrap', title: exact(l.logged_at) }, clock(l.logged_at)),
							h('td', { class: 'muted nowrap', title: 'Attempt' }, `#${l.attempt}`),
							h('td', { class: colour[l.level] || '' }, l.level),
							h('td', { class: `message ${colour[l.level] || ''}` }, l.message),
						),
					),
				),
			),
		),
	);
}

function actions(ctx, j) {
	if (!ctx.write) return null;
	const one = async (action, title, note, label, danger, reason) => {
		const field = h('input', { type: 'text', autocomplete: 'off' });
		const said = await ask(
			title,
			[h('p', null, note), reason ? h('label', null, 'Reason (kept with the job)', field) : null],
			label,
			{ danger, read: () => ({ reason: field.value.trim() }) },
		);
		if (!said) return;
		try {
			const { done } = await act(ctx.db, action, { id: j.id, ...(said.reason ? { reason: said.reason } : {}) });
			toast(Number(done) ? `${label}: done` : 'The job was not in a state for that any more');
		} catch (error) {
			toast(error.message + (error.hint ? `: ${error.hint}` : ''), true);
		}
		await ctx.refresh();
	};
	const again =
		j.state === 'completed'
			? 'It has completed; its handler will do it once more.'
			: 'It becomes available at once, with all its attempts before it.';
	const list = [];
	if (j.state !== 'running' && j.state !== 'pending' && j.state !== 'available') {
		list.push(
			button(
				j.state === 'completed' ? 'Run again …' : 'Retry',
				() =>
					j.state === 'completed'
						? one('retry_job', `Run job ${j.id} again?`, again, 'Run it again')
						: ctx.act('retry_job', { id: j.id }, ({ done }) =>
								Number(done)
									? `Job ${j.id} is tried again`
									: 'The job was not in a state for that any more',
							),
				{ key: 'retry', class: j.state === 'completed' ? null : 'primary' },
			),
		);
	}
	if (!FINISHED.includes(j.state)) {
		if (j.state !== 'running')
			list.push(
				button('Move …', () => bulk(ctx, 'move_jobs', JSON.stringify({ ids: [j.id] }), `job ${j.id}`), {
					key: 'move',
				}),
			);
		list.push(
			button(
				'Cancel …',
				() =>
					one(
						'cancel_job',
						`Cancel job ${j.id}?`,
						j.state === 'running'
							? 'It runs; what it did is undone if it is an SQL handler.'
							: 'It is kept as cancelled and can be retried.',
						'Cancel it',
						true,
						true,
					),
				{ key: 'cancel' },
			),
		);
		list.push(
			button(
				'Discard …',
				() =>
					one(
						'discard_job',
						`Discard job ${j.id}?`,
						'It counts as failed for good, and goes to the dead letters if its queue has some.',
						'Discard it',
						true,
						true,
					),
				{ key: 'discard' },
			),
		);
	} else {
		list.push(
			button('Delete …', () => bulk(ctx, 'delete_jobs', JSON.stringify({ ids: [j.id] }), `job ${j.id}`), {
				key: 'delete',
				class: 'danger',
			}),
		);
	}
	return h('div', { class: 'actions' }, list);
}
