// chart.js: a queue's last hour as a line, its last day as a chart, a workflow as a graph; SVG without a library.

import { h, svg } from './dom.js';
import { count, plural, span } from './format.js';

// A path through the values, from left to right; null leaves a gap.
function line(values, width, height, top) {
	const step = values.length > 1 ? width / (values.length - 1) : width;
	let path = '';
	let pen = 'M';
	values.forEach((v, i) => {
		if (v === null) {
			pen = 'M';
			return;
		}
		path += `${pen}${(i * step).toFixed(1)} ${(height - (v / top) * height).toFixed(1)}`;
		pen = 'L';
	});
	return path;
}

// What stands for each of the last `minutes` minutes: the row of history, or null where the server kept none.
function perMinute(rows, minutes, now) {
	const last = Math.floor(now / 60000) - 1; // the present minute is not over
	const slots = new Array(minutes).fill(null);
	for (const row of rows) {
		const i = minutes - 1 - (last - Math.floor(Date.parse(row.minute) / 60000));
		if (i >= 0 && i < minutes) slots[i] = row;
	}
	return slots;
}

const sum = (rows, key) => rows.reduce((n, r) => n + (r ? Number(r[key]) || 0 : 0), 0);

// The last hour in and out, in the width of a table cell; in words for a pointer and for a screen reader.
export function sparkline(rows, now) {
	const width = 132;
	const height = 26;
	const slots = perMinute(rows, 60, now);
	const of = (key) => slots.map((r) => (r ? Number(r[key]) || 0 : null));
	const arrived = of('enqueued');
	const done = of('completed');
	const failed = of('failed');
	const top = Math.max(1, ...arrived, ...done, ...failed);
	const words =
		`Last hour: ${count(sum(slots, 'enqueued'))} in, ${count(sum(slots, 'completed'))} completed, ` +
		`${plural(sum(slots, 'failed'), 'failed attempt')}; at most ${count(top)} a minute`;
	const drawn = (values, name) => svg('path', { class: name, d: line(values, width, height, top) });
	return svg(
		'svg',
		{
			class: 'spark',
			viewBox: `-1 -2 ${width + 2} ${height + 4}`,
			width: width + 2,
			height: height + 4,
			role: 'img',
			'aria-label': words,
		},
		svg('title', null, words),
		svg('path', { class: 'axis', d: `M0 ${height}H${width}` }),
		arrived.some((v) => v) ? drawn(arrived, 'line-in') : null,
		done.some((v) => v) ? drawn(done, 'line-out') : null,
		failed.some((v) => v) ? drawn(failed, 'line-failed') : null,
	);
}

// The same with axes, over `minutes`; each bucket is as many minutes as fit a pixel or two.
export function history(rows, minutes, now, { keys, label }) {
	const width = 720;
	const height = 150;
	const per = Math.max(1, Math.round(minutes / 180));
	const slots = perMinute(rows, minutes, now);
	const buckets = [];
	for (let i = 0; i < slots.length; i += per) buckets.push(slots.slice(i, i + per).filter((r) => r));
	const series = keys.map(([key, name, how]) => [
		key,
		name,
		buckets.map((b) => {
			if (!b.length) return null;
			return how === 'max' ? Math.max(...b.map((r) => Number(r[key]) || 0)) : sum(b, key) / b.length;
		}),
	]);
	const top = Math.max(1, ...series.flatMap(([, , v]) => v.filter((x) => x !== null)));
	const nice = niceTop(top);
	const grid = [0, 0.5, 1].map((part) => {
		const y = height - part * height;
		return [
			svg('path', { class: 'axis', d: `M0 ${y}H${width}` }),
			svg(
				'text',
				{ class: 'tick', x: -6, y: y + 4, 'text-anchor': 'end' },
				label === 's' ? span(nice * part) : count(Math.round(nice * part * 10) / 10),
			),
		];
	});
	const hours = [0, 0.25, 0.5, 0.75, 1].map((part) => {
		const at = new Date(now - (1 - part) * minutes * 60000);
		const text = at.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
		return svg(
			'text',
			{
				class: 'tick',
				x: part * width,
				y: height + 25,
				'text-anchor': part === 0 ? 'start' : part === 1 ? 'end' : 'middle',
			},
			text,
		);
	});
	return h(
		'figure',
		{ class: 'chart' },
		h(
			'figcaption',
			null,
			series.map(([key, name]) => h('span', { class: `legend legend-${key}` }, name)),
		),
		svg(
			'svg',
			{
				viewBox: `-72 -18 ${width + 80} ${height + 50}`,
				role: 'img',
				'aria-label': series.map(([, name]) => name).join(', '),
			},
			grid,
			hours,
			series.map(([key, , values]) =>
				svg('path', { class: `line-${key}`, d: line(values, width, height, nice) }),
			),
		),
	);
}

function niceTop(top) {
	const unit = 10 ** Math.floor(Math.log10(top));
	return [1, 2, 4, 5, 10].map((n) => n * unit).find((n) => n >= top);
}

// ---- a workflow

const NODE_W = 176;
const NODE_H = 44;
const GAP_X = 56;
const GAP_Y = 14;
export const MAX_NODES = 300;

// Columns by the longest way from a job that depends on nothing; within a column by where its dependencies stand.
function layout(jobs) {
	const byId = new Map(jobs.map((j) => [String(j.job_id), j]));
	const before = new Map(
		jobs.map((j) => [String(j.job_id), (j.depends_on || []).map(String).filter((d) => byId.has(d))]),
	);
	const after = new Map();
	const missing = new Map();
	for (const [id, deps] of before) {
		missing.set(id, deps.length);
		for (const d of deps) after.set(d, [...(after.get(d) || []), id]);
	}
	const column = new Map();
	const ready = [...missing].filter(([, n]) => n === 0).map(([id]) => id);
	for (const id of ready) column.set(id, 0);
	for (let i = 0; i < ready.length; i++) {
		for (const next of after.get(ready[i]) || []) {
			column.set(next, Math.max(column.get(next) || 0, column.get(ready[i]) + 1));
			missing.set(next, missing.get(next) - 1);
			if (missing.get(next) === 0) ready.push(next);
		}
	}
	const columns = [];
	for (const id of byId.keys()) {
		const c = column.get(id) || 0;
		(columns[c] = columns[c] || []).push(id);
	}
	const place = new Map();
	columns.forEach((ids, c) => {
		if (c > 0) {
			const weight = (id) => {
				const deps = before.get(id);
				return deps.reduce((n, d) => n + (place.get(d) ? place.get(d).y : 0), 0) / Math.max(deps.length, 1);
			};
			ids.sort((a, b) => weight(a) - weight(b));
		}
		ids.forEach((id, i) => place.set(id, { x: c * (NODE_W + GAP_X), y: i * (NODE_H + GAP_Y) }));
	});
	const tallest = Math.max(...columns.map((ids) => ids.length));
	// Short columns stand in the middle of tall ones.
	columns.forEach((ids) =>
		ids.forEach((id) => {
			place.get(id).y += ((tallest - ids.length) * (NODE_H + GAP_Y)) / 2;
		}),
	);
	return {
		byId,
		before,
		place,
		width: columns.length * (NODE_W + GAP_X) - GAP_X,
		height: tallest * (NODE_H + GAP_Y) - GAP_Y,
	};
}

const cut = (text, n) => {
	const letters = [...text];
	return letters.length > n ? letters.slice(0, n - 1).join('') + '…' : text;
};

// href(job) leads to the job's page.
export function graph(jobs, href) {
	const { byId, before, place, width, height } = layout(jobs);
	const edges = [];
	for (const [id, deps] of before) {
		const to = place.get(id);
		for (const d of deps) {
			const from = place.get(d);
			const x1 = from.x + NODE_W;
			const y1 = from.y + NODE_H / 2;
			const y2 = to.y + NODE_H / 2;
			const mid = Math.max(GAP_X / 2, (to.x - x1) / 2);
			edges.push(
				svg('path', {
					key: `${d}-${id}`,
					class: `edge from-${byId.get(d).state}`,
					'marker-end': 'url(#arrow)',
					d: `M${x1} ${y1}C${x1 + mid} ${y1} ${to.x - mid} ${y2} ${to.x - 2} ${y2}`,
				}),
			);
		}
	}
	const nodes = [...byId].map(([id, job]) => {
		const { x, y } = place.get(id);
		const name = job.ref || job.kind;
		return svg(
			'a',
			{
				key: id,
				href: href(job),
				class: `node n-${job.state}`,
				'aria-label': `${name}, ${job.state}, job ${id}`,
			},
			svg('title', null, `${name}\n${job.kind}, job ${id}: ${job.state}`),
			svg('rect', { x, y, width: NODE_W, height: NODE_H, rx: 6 }),
			svg('rect', { class: 'mark', x, y, width: 5, height: NODE_H, rx: 2 }),
			svg('text', { class: 'node-name', x: x + 14, y: y + 18 }, cut(name, 21)),
			svg(
				'text',
				{ class: 'node-state', x: x + 14, y: y + 35 },
				cut(`${job.state} · ${job.ref && job.ref !== job.kind ? job.kind : id}`, 27),
			),
		);
	});
	return h(
		'div',
		{ class: 'scroll graph', tabindex: 0, role: 'group', 'aria-label': 'The workflow as a graph' },
		svg(
			'svg',
			{ viewBox: `-4 -4 ${width + 8} ${height + 8}`, width: width + 8, height: height + 8 },
			svg(
				'defs',
				null,
				svg(
					'marker',
					{
						id: 'arrow',
						viewBox: '0 0 8 8',
						refX: 7,
						refY: 4,
						markerWidth: 7,
						markerHeight: 7,
						orient: 'auto',
					},
					svg('path', { class: 'arrow', d: 'M0 0L8 4L0 8z' }),
				),
			),
			edges,
			nodes,
		),
	);
}
