// filter.js: the filters of the jobs page: from the address to JSON for queue.find_jobs, and to words.

import { parse } from './exact.js';

export const STATES = [
	'available',
	'running',
	'retryable',
	'scheduled',
	'pending',
	'discarded',
	'cancelled',
	'completed',
];
export const TEXTS = {
	queue: 'Queue',
	kind: 'Kind',
	worker: 'Worker',
	group_key: 'Group key',
	concurrency_key: 'Concurrency key',
	unique_key: 'Unique key',
};
export const TIMES = {
	enqueued_after: 'Enqueued after',
	enqueued_before: 'Enqueued before',
	finished_after: 'Finished after',
	finished_before: 'Finished before',
};
export const NAMES = [
	'state',
	...Object.keys(TEXTS),
	'tag',
	'payload',
	'error',
	'ids',
	'priority',
	'workflow',
	...Object.keys(TIMES),
];

const WHOLE = /^-?\d{1,19}$/;

function words(text) {
	return text.split(/[\s,]+/).filter(Boolean);
}

// {"order": 17} as it is; order: 17 and order=17 become that, with text for what is no JSON.
export function payloadText(text) {
	const typed = text.trim();
	try {
		parse(typed);
		return typed;
	} catch {
		const pair = /^"?([^\s:="{}[\]]+)"?\s*[:=]\s*(.+)$/s.exec(typed);
		if (!pair) throw new SyntaxError('Write JSON that the payload contains, as {"order": 17}, or simply order: 17');
		let value = pair[2].trim();
		try {
			parse(value);
		} catch {
			value = JSON.stringify(value);
		}
		return `{${JSON.stringify(pair[1])}: ${value}}`;
	}
}

// The address' filters as JSON text (numbers stay as typed), in words, and what is wrong with which field.
export function read(params) {
	const parts = [];
	const said = [];
	const wrong = {};
	const add = (key, json, text) => {
		parts.push(`${JSON.stringify(key)}:${json}`);
		said.push(text);
	};
	for (const name of NAMES) {
		const value = (params.get(name) || '').trim();
		if (value === '') continue;
		if (name === 'state')
			add('state', value.includes(',') ? JSON.stringify(words(value)) : JSON.stringify(value), value);
		else if (name in TEXTS) add(name, JSON.stringify(value), `${TEXTS[name].toLowerCase()} ${value}`);
		else if (name === 'tag') add('tags', JSON.stringify(words(value)), `tagged ${value}`);
		else if (name === 'error') add('error', JSON.stringify(value), `error contains “${value}”`);
		else if (name === 'payload') {
			try {
				const json = payloadText(value);
				add('payload', json, `payload contains ${json}`);
			} catch (error) {
				wrong.payload = error.message;
			}
		} else if (name === 'ids') {
			const ids = words(value);
			if (!ids.every((id) => WHOLE.test(id))) wrong.ids = 'Ids are numbers';
			else add('ids', JSON.stringify(ids), ids.length > 5 ? `${ids.length} ids` : `id ${ids.join(', ')}`);
		} else if (name in TIMES) {
			const at = new Date(value);
			if (Number.isNaN(at.getTime())) wrong[name] = 'No such time';
			else add(name, JSON.stringify(at.toISOString()), `${TIMES[name].toLowerCase()} ${at.toLocaleString()}`);
		} else if (!WHOLE.test(value)) wrong[name] = 'A whole number';
		else add(name, value, `${name} ${value}`);
	}
	return { json: `{${parts.join(',')}}`, words: said.join(', '), empty: !parts.length, wrong };
}
