// bulk.js: an action on many jobs: counts them first, says which in words, asks, does it.

import { act, countFor } from './api.js';
import { ask, h, toast } from './dom.js';
import { count, plural } from './format.js';

const WORDS = {
	retry_jobs: {
		verb: 'Retry',
		done: 'retried',
		note: 'They become available at once, with all their attempts before them.',
	},
	cancel_jobs: {
		verb: 'Cancel',
		done: 'cancelled',
		note: 'Running ones are stopped. They are kept as cancelled and can be retried.',
		reason: true,
		danger: true,
	},
	discard_jobs: {
		verb: 'Discard',
		done: 'discarded',
		note: 'They count as failed for good and can be retried later.',
		reason: true,
		danger: true,
	},
	delete_jobs: { verb: 'Delete', done: 'deleted', note: 'They are gone for good, with their results.', danger: true },
	move_jobs: { verb: 'Move', done: 'moved', note: 'Only waiting jobs move. Leave empty what is to stay as it is.' },
};

export function verb(action) {
	return WORDS[action].verb;
}

// filter: JSON text; inWords: the same for people. Resolves to true if it was done.
export async function bulk(ctx, action, filter, inWords) {
	const words = WORDS[action];
	// The filter stays text, so that its numbers are what was typed.
	const body = (more) =>
		`{"filter":${filter}${Object.entries(more)
			.map(([k, v]) => `,${JSON.stringify(k)}:${JSON.stringify(v)}`)
			.join('')}}`;
	try {
		const fields = {};
		const field = (name, label, type = 'text') => {
			fields[name] = h('input', { type, name, autocomplete: 'off' });
			return h('label', null, label, fields[name]);
		};
		const target =
			action === 'move_jobs'
				? [
						field('queue', 'To queue'),
						field('kind', 'To kind'),
						field('priority', 'To priority (lower first)', 'number'),
					]
				: null;
		// To move needs a target before it can be counted; any of the three counts the same jobs.
		const counted = await countFor(ctx.db, action, body(target ? { priority: 0 } : {}));
		const n = Number(counted.count);
		if (!n) {
			toast(`No job to ${words.verb.toLowerCase()}: none that matches is in a state for it`);
			return false;
		}
		const many = counted.more ? `more than ${plural(n, 'job')}` : plural(n, 'job');
		const values = await ask(
			`${words.verb} ${many}?`,
			[
				h('p', null, h('span', { class: 'muted' }, 'Which: '), inWords),
				h('p', null, words.note),
				target,
				words.reason ? field('reason', 'Reason (kept with each job)') : null,
			],
			counted.more ? `${words.verb} all of them` : `${words.verb} ${plural(n, 'job')}`,
			{
				danger: words.danger,
				read: () =>
					Object.fromEntries(
						Object.entries(fields)
							.filter(([, f]) => f.value.trim() !== '')
							.map(([k, f]) => [k, k === 'priority' ? Number(f.value) : f.value.trim()]),
					),
			},
		);
		if (values === null) return false;
		if (target && !Object.keys(values).length) {
			toast('Nothing was changed: no queue, kind or priority was given');
			return false;
		}
		if (!counted.more) values.qty = n;
		const data = await act(ctx.db, action, body(values));
		const done = Number(data.done);
		toast(
			`${plural(done, 'job')} ${words.done}` +
				(!counted.more && done < n ? `; ${count(n - done)} had changed meanwhile or may not be touched` : ''),
		);
	} catch (error) {
		toast(error.message + (error.hint ? `: ${error.hint}` : ''), true);
		return false;
	}
	ctx.reset();
	await ctx.refresh();
	return true;
}
