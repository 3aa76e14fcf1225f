// pages.mjs: the pages of queue-web in a real Chromium, as TAP.  node pages.mjs URL READONLY-URL TOKEN-URL [folder
// for screenshots]
//
// SQL, CHROMIUM and PROFILE come from run.sh in the environment.  Each step waits for what it expects to see; when
// something does not come, the run is cut short from outside and the last line says what was awaited.

import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { launch } from './chromium.mjs';

const [base, readonly, locked, shots] = process.argv.slice(2);
let tests = 0;
let failures = 0;

function ok(good, name, detail = '') {
	tests++;
	if (!good) failures++;
	console.log(`${good ? 'ok' : 'not ok'} ${tests} - ${name}`);
	if (!good && detail)
		console.log(
			String(detail)
				.split('\n')
				.map((line) => `#   ${line}`)
				.join('\n'),
		);
}
function is(got, expected, name) {
	const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
	ok(a === b, name, `got:      ${a}\nexpected: ${b}`);
}

const run = promisify(execFile);
async function sql(text) {
	const [program, ...args] = JSON.parse(process.env.SQL);
	return (await run(program, [...args, '-c', text])).stdout.trim();
}

for (const b of [base, readonly, locked]) {
	// Until their databases are there.
	while (!(await fetch(`${b}/healthz`)).ok)
		await new Promise((resolve) => {
			setTimeout(resolve, 50);
		});
}
const browser = await launch(process.env.CHROMIUM, process.env.PROFILE);
const page = await browser.open(1360, 900);
// A message goes away by itself; this keeps what it said.
await page.always(() => {
	window.said = [];
	const look = () => {
		for (const t of document.querySelectorAll('.toast > span'))
			if (!window.said.includes(t.textContent)) window.said.push(t.textContent);
	};
	new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
});
const toasted = (text) => page.until((t) => window.said.some((s) => s.includes(t)), text);
const path = () => page.run(() => location.pathname + location.search);
const job = async (kind) =>
	sql(`SELECT id FROM queue.job WHERE kind = '${kind.replace(/'/g, "''")}' ORDER BY id LIMIT 1`);
const open = async (where, waitFor) => {
	await page.goto(base + where);
	await page.until(() => document.querySelector('main h1'));
	if (waitFor) await page.see(waitFor, 'main');
};

// ---- why is a job late, and a hundred failed ones again: what a new user comes for
await open('/', '100 jobs of kind pay in orders failed for good');
is(await path(), '/d/shop/overview', 'the first page is the overview of the first database');
ok(
	await page.until(() =>
		[...document.querySelectorAll('.alarm')].some((a) => a.textContent.includes('imports is late')),
	),
	'a queue whose jobs wait for hours is called late',
);
ok(
	await page.run(() =>
		[...document.querySelectorAll('.alarm')].some((a) => a.textContent.includes('reports is paused')),
	),
	'a paused queue with jobs in it is told',
);
is(await page.run(() => document.querySelectorAll('table.queues tbody tr').length), 7, 'a row for each queue');

await page.click('.alarm button', 'Why?');
await page.until(() => document.querySelector('.why'));
ok(
	(await page.run(() => document.querySelector('.why').textContent)).includes('wait'),
	'Why? leads to the oldest job, which says why it waits',
	await page.run(() => document.querySelector('main').textContent.slice(0, 300)),
);
await page.run(() => history.back());
await page.until(() => document.querySelector('table.queues'));

await page.click('.alarm:has(strong) a', 'See them');
await page.until(
	() => location.pathname === '/d/shop/jobs' && document.querySelectorAll('table.jobs tbody tr').length > 0,
);
ok((await path()).includes('state='), 'See them leads to just those jobs', await path());
await open('/d/shop/overview', '100 jobs of kind pay');
await sql('UPDATE shop SET card_works = true');
await page.click('.alarm.worst button', 'Retry all');
await page.see('Retry 100 jobs?', 'dialog');
ok(
	await page.run(() => /discarded, kind pay, queue orders/.test(document.querySelector('dialog').textContent)),
	'the dialog says which jobs',
);
await page.click('dialog button[type=submit]');
await toasted('100 jobs retried');
ok(true, 'a hundred failed jobs are retried with two clicks');
await page.gone('100 jobs of kind pay', 'main');
let left;
do left = await sql("SELECT count(*) FROM queue.job WHERE kind = 'pay' AND state <> 'completed'");
while (left !== '0');
ok(true, 'and they complete');

// ---- the jobs page
await open('/d/shop/jobs', 'Jobs');
await page.type('input[name=kind]', 'pay');
await page.until(() => new URLSearchParams(location.search).get('kind') === 'pay');
await page.until(
	() =>
		[...document.querySelectorAll('table.jobs tbody tr')].length === 50 &&
		[...document.querySelectorAll('table.jobs tbody a.name')].every((a) => a.textContent === 'pay'),
);
ok(true, 'a filter goes into the address and the list follows it; a page has 50 rows');
await page.click('.pager button', 'Older');
await page.until(() => new URLSearchParams(location.search).get('before'));
await page.until(() => document.querySelector('.pager > button').disabled);
ok(true, 'the next page, by id');
await page.click('.pager button', 'Newer');
await page.until(() => new URLSearchParams(location.search).get('after'));
await page.until(() => !document.querySelector('.pager > button').disabled);
ok(true, 'and back');
await page.type('input[name=payload]', 'order: 1017');
await page.until(
	() =>
		document.querySelectorAll('table.jobs tbody tr').length === 1 &&
		document.querySelector('.payload').textContent.includes('1017'),
);
ok(true, 'payload contains, as one types it');
const link = await path();
await page.type('input[name=payload]', '{"order": ');
await page.see('Write JSON that the payload contains', '.field-error');
ok(true, 'a filter that is none says what to write');
await page.run(() => history.back());
await page.until(
	(where) =>
		location.pathname + location.search === where &&
		document.querySelector('input[name=payload]').value === 'order: 1017',
	link,
);
ok(true, 'the way back restores the filter and its field');
await page.goto(base + link);
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 1);
ok(true, 'the address can be sent to somebody');
await open('/d/shop/jobs?state=retryable&error=no+such+file%3A+3.csv');
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 1);
ok(true, 'part of an error finds its job');
await open('/d/shop/jobs?tag=gold');
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 1);
ok(true, 'a tag finds its job');
await open(`/d/shop/jobs?enqueued_after=${encodeURIComponent('2099-01-01T00:00')}`, 'No job matches');
ok(true, 'a time filters');
await open('/d/shop/jobs?priority=-5&state=available');
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 1);
ok(true, 'a priority filters');

// ---- picking some
await open('/d/shop/jobs?state=retryable&kind=flaky');
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 7);
await page.click('table.jobs tbody tr:nth-child(1) input');
await page.click('table.jobs tbody tr:nth-child(2) input');
await page.see('2 picked', '.bulk');
await page.click('.bulk button', 'Cancel 2');
await page.see('Cancel 2 jobs?', 'dialog');
await page.key('Escape');
await page.until(() => !document.querySelector('dialog'));
is(
	await sql("SELECT count(*) FROM queue.job WHERE kind = 'flaky' AND state = 'retryable'"),
	'7',
	'Escape leaves them as they are',
);
await page.click('.bulk button', 'Cancel 2');
await page.type('dialog input[name=reason]', 'not needed <b>any more</b>', false);
await page.click('dialog button[type=submit]');
await toasted('2 jobs cancelled');
is(
	await sql(
		"SELECT count(*) FROM queue.job WHERE kind = 'flaky' AND state = 'cancelled' AND last_error LIKE '%not needed <b>any more</b>'",
	),
	'2',
	'two picked jobs are cancelled, with the reason',
);
await open('/d/shop/jobs?state=cancelled&kind=flaky');
await page.until(() => document.querySelectorAll('table.jobs tbody tr').length === 2);
await page.click('table.jobs thead input');
await page.click('.bulk button', 'Delete 2');
await page.click('dialog button.danger', 'Delete 2 jobs');
await toasted('2 jobs deleted');
await page.see('No job matches', 'main');
ok(true, 'a page of jobs is picked at once and deleted');
await open('/d/shop/jobs?state=retryable&kind=flaky');
await page.click('.bulk button', 'Move all');
await page.type('dialog input[name=priority]', '3', false);
await page.click('dialog button[type=submit]');
await toasted('5 jobs moved');
is(
	await sql("SELECT count(*) FROM queue.job WHERE kind = 'flaky' AND priority = 3"),
	'5',
	'all that match are moved to another priority',
);
await page.click('.bulk button', 'Discard all');
await page.click('dialog button[type=submit]');
await toasted('5 jobs discarded');
ok(true, 'all that match are discarded');

// ---- the list stands still, and nothing flickers
await open('/d/shop/jobs?kind=tick', 'No job matches');
const first = await sql("SELECT queue.enqueue('tick', '{\"n\": 1}', 'imports', delay => '1 day')");
await page.until((id) => document.querySelector('table.jobs tbody tr')?.textContent.includes(id), first);
await page.run(() => {
	document.querySelector('table.jobs tbody tr').mark = 1;
});
await page.type('input[name=error]', 'half typed', false);
const second = await sql("SELECT queue.enqueue('tick', '{\"n\": 2}', 'imports', delay => '1 day')");
await page.see('1 job not shown yet', '.newer');
is(
	await page.run(() => [
		document.querySelectorAll('table.jobs tbody tr').length,
		document.querySelector('table.jobs tbody tr').mark,
		document.activeElement.name,
		document.activeElement.value,
	]),
	[1, 1, 'error', 'half typed'],
	'a new job moves no row, and what is being typed stays',
);
await sql(`SELECT queue.cancel(${first})`);
await page.until(() => document.querySelector('table.jobs tbody tr').textContent.includes('cancelled'));
is(await page.run(() => document.querySelector('table.jobs tbody tr').mark), 1, 'a row changes in its place');
await page.run(() => {
	document.activeElement.value = '';
});
await page.click('.newer button');
await page.until(
	(id) =>
		document.querySelectorAll('table.jobs tbody tr').length === 2 &&
		document.querySelector('table.jobs tbody tr').textContent.includes(id),
	second,
);
ok(true, 'and is shown when asked for');

// ---- a job: exact, safe, complete
const evil = await job('<img src=x onerror="pwned = 1">');
await open(`/d/shop/job/${evil}`);
await page.until(() => document.querySelector('.json'));
const text = await page.run(() => document.querySelector('main').textContent);
for (const [what, name] of [
	['12345678901234567890', 'a number of 20 digits'],
	['0.1000', 'trailing zeros'],
	['1000000000000000000000000000000', '1e30'],
	['"__proto__"', 'a key called __proto__'],
	['</script><script>pwned = 1</script><!--', 'markup as text'],
	['\\u202eabc\\u2066', 'marks of direction, written out'],
	['"\\\\u0000 and \\\\x00"', 'what looks like an escape'],
	['all 50,000 characters', 'a long text, its length'],
]) {
	ok(text.includes(what), `a payload is shown exactly: ${name}`, text.slice(0, 2500));
}
ok(!text.includes('secret-value') && text.includes('<u>h</u>'), 'headers are shown by name only');
await page.click('.json button', 'all 50,000 characters');
await page.until(() => document.querySelector('.json').textContent.length > 50000);
ok(true, 'all of a long text is shown when asked for');
await page.click('.json-tools button', 'As text');
ok(
	await page.until(() => document.querySelector('.json-text')?.textContent.includes('"exact": 12345678901234567890')),
	'the payload as text, exact too',
);
await page.see('<script>pwned=1</script> "\\u202e\\u001b[31m', '.log');
ok(true, 'a hostile line of the log is text');
const broken = await job('broken');
await open(
	`/d/shop/job/${broken}`,
	'</script><script>pwned = 1</script><img src=x onerror="pwned = 1"> \\u202egnp.exe',
);
ok(true, 'a hostile error is text');
const deep = await job('deep');
await open(`/d/shop/job/${deep}`);
await page.until(() => document.querySelector('.j-fold'));
const levels = await page.run(() => {
	for (let fold; (fold = document.querySelector('.j-fold[aria-expanded=false]'));) fold.click();
	return document.querySelectorAll('.j-fold').length;
});
is(levels, 1000, '1,000 levels can be opened one by one');
ok(
	(await page.run(() => document.querySelector('.json').textContent)).includes('12345678901234567891'),
	'down to the number inside',
);
const report = await sql("SELECT id FROM queue.job WHERE worker = 'report-worker-7'");
await open(`/d/shop/job/${report}`, 'invoice 317 has no address');
is(await page.run(() => document.querySelector('progress').value), 37, 'progress is a bar');
ok(
	(await page.run(() => document.querySelector('.timeline').textContent)).includes('report-worker-7'),
	'the timeline says who works on it',
);
ok(
	await page.run(() => /\d{4}-\d\d-\d\dT/.test(document.querySelector('time').title)),
	'a time tells the exact one on hover',
);
await page.click('.head button', 'Discard');
await page.click('dialog button[type=submit]');
await page.see('discarded', '.head .state');
await page.click('.head button', 'Retry');
await page.see('available', '.head .state');
ok(
	(await page.run(() => document.querySelector('.why').textContent)).includes('paused'),
	'a job is discarded and retried on its page, and says that its queue is paused',
);
const paid = await sql("SELECT id FROM queue.job WHERE kind = 'pay' ORDER BY id LIMIT 1");
await open(`/d/shop/job/${paid}`, 'Attempt 1 failed');
ok(
	(await page.run(() => document.querySelector('.timeline').textContent)).includes('Attempt 2 completed'),
	'the timeline has the failure and the success',
);
await page.goto(`${base}/d/shop/job/999999999`);
await page.until(() => document.querySelector('main .empty'));
ok(true, 'an id that never was is told');

// ---- queues, handlers, schedules, workflows
await open('/d/shop/queue?name=orders', 'Kinds');
await page.click('.head button', 'Pause');
await page.click('dialog button[type=submit]');
await page.see('paused', '.head .state');
is(await sql("SELECT paused_at IS NOT NULL FROM queue.stat_queue WHERE queue = 'orders'"), 't', 'a queue is paused');
await page.click('.head button', 'Resume');
await page.until(() => !document.querySelector('.head .state'));
ok(true, 'and resumed');
await open('/d/shop/handlers', 'http://127.0.0.1:9/hooks/orders');
ok(!(await page.run(() => document.body.textContent)).includes('hidden'), 'the query of an address is not shown');
await page.click('tr button', 'Resume');
await toasted('webhook runs again');
await page.click('tr:last-child button', 'Pause');
await page.click('dialog button[type=submit]');
await toasted('webhook is paused');
ok(true, 'a handler is resumed and paused');
await open('/d/shop/schedules', 'at 04:30, Monday to Friday');
await page.see('every 5 minutes', 'main');
await page.see('at 00:00, on the 1st, in January', 'main');
ok(true, 'lines of schedules in words');
await page.click('tr:nth-child(3) button', 'Run now');
await page.click('dialog button[type=submit]');
await toasted('is enqueued');
is(
	await sql('SELECT count(*) > 0 FROM queue.job WHERE kind = \'report\' AND payload = \'{"month": "last"}\''),
	't',
	'a schedule is run now',
);
await open('/d/shop/workflows', 'import of the catalogue');
await page.click('td a', 'import of the catalogue');
await page.until(
	() =>
		document.querySelectorAll('.graph .node').length === 5 &&
		document.querySelectorAll('.graph .edge').length === 5,
);
ok(
	await page.run(() => document.querySelector('.node.n-completed').getAttribute('aria-label').startsWith('load')),
	'a workflow is drawn, with states',
);
await page.click('.head button', 'Cancel');
await page.click('dialog button[type=submit]');
await page.see('cancelled', '.head .state');
ok(true, 'it is cancelled');
await open('/d/shop/workflows?state=failed', 'one that fails');
await page.click('td a', 'one that fails');
await page.click('.head button', 'Retry');
await toasted('2 jobs of the workflow tried again');
ok(true, 'one that failed is retried');
await open(`/d/shop/workflow/${await sql("SELECT id FROM queue.workflow WHERE name = 'import of the catalogue'")}`);

// ---- two databases, empty ones, keys
await page.until(() => document.querySelector('select[aria-label=Database]').options.length === 2);
await page.run(() => {
	const select = document.querySelector('select[aria-label=Database]');
	select.value = 'empty';
	select.dispatchEvent(new Event('change', { bubbles: true }));
});
await page.see('No workflow yet', 'main');
is(await path(), '/d/empty/workflows', 'the other database, the same page');
const hints = [];
for (const name of ['jobs', 'handlers', 'schedules', 'workflows', 'recent']) {
	await open(`/d/empty/${name}`);
	await page.until(() => document.querySelector('.empty .psql'));
	hints.push(await page.run(() => document.querySelector('.psql code').textContent));
}
ok(
	hints.every((h) => /queue\./.test(h)),
	'what is empty says what to type in psql',
	hints.join('\n'),
);
await page.key('g');
await page.key('j');
await page.until(() => location.pathname === '/d/empty/jobs' && document.querySelector('input[name=queue]'));
await page.key('/');
is(await page.run(() => document.activeElement.name), 'queue', 'keys lead to a page and to its filters');

// ---- every page: light, dark and narrow; nothing overlaps the edge, all can be read, nothing is refused by the
// browser
const flow = await sql("SELECT id FROM queue.workflow WHERE name = 'import of the catalogue'");
const pages = {
	overview: '',
	jobs: '',
	'jobs-discarded': 'jobs?state=discarded',
	job: `job/${paid}`,
	'job-hostile': `job/${evil}`,
	'job-running': `job/${await sql("SELECT id FROM queue.job WHERE state = 'running' ORDER BY id LIMIT 1")}`,
	queue: 'queue?name=orders',
	recent: '',
	handlers: '',
	schedules: '',
	workflows: '',
	workflow: `workflow/${flow}`,
	workers: '',
	settings: '',
};
// Text that is too faint, or wider than the screen.
const faults = () => {
	const out = [];
	const parse = (c) => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
	// color-mix() gives color(srgb r g b), in parts of 1
	const rgba = (c) => {
		const v = parse(c.replace('srgb', ''));
		const k = c.startsWith('color(') ? 255 : 1;
		return [v[0] * k, v[1] * k, v[2] * k, v[3] === undefined ? 1 : v[3]];
	};
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const lum = (c) =>
		[0.2126, 0.7152, 0.0722].reduce((s, k, i) => {
			const v = c[i] / 255;
			return s + k * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		}, 0);
	const ground = (el) => {
		const layers = [];
		for (let e = el; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
		return layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255, 1]);
	};
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const el = walk.currentNode.parentElement;
		const box = el.getBoundingClientRect();
		if (
			!walk.currentNode.data.trim() ||
			!box.width ||
			!box.height ||
			box.left < -100 ||
			el.closest('svg, option, :disabled, .gone') ||
			getComputedStyle(el).visibility === 'hidden'
		)
			continue;
		const below = ground(el);
		const [a, b] = [lum(over(rgba(getComputedStyle(el).color), below)), lum(below)];
		const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (contrast < 4.5) out.push(`contrast ${contrast.toFixed(2)}: ${walk.currentNode.data.trim().slice(0, 40)}`);
	}
	const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
	if (wide > 0) {
		const right = document.documentElement.clientWidth;
		const worst = [...document.querySelectorAll('main *, #top *')].filter(
			(e) => e.getBoundingClientRect().right > right + 1 && !e.closest('.graph, nav, .tabs'),
		)[0];
		out.push(
			`${wide} px wider than the screen: ${worst ? `${worst.localName}.${worst.className} ${worst.textContent.slice(0, 40)}` : ''}`,
		);
	}
	return [...new Set(out)].slice(0, 5);
};
if (shots) mkdirSync(shots, { recursive: true });
const looks = { light: [1360, false], dark: [1360, true], narrow: [390, false] };
const found = Object.fromEntries(Object.keys(looks).map((look) => [look, []]));
for (const [name, where] of Object.entries(pages)) {
	await open(`/d/shop/${where || name}`);
	await page.until(() => document.querySelector('main table, main .timeline, main .empty'));
	for (const [look, [width, dark]] of Object.entries(looks)) {
		await page.resize(width, width === 390 ? 844 : 900, width === 390);
		await page.dark(dark);
		found[look].push(...(await page.run(faults)).map((f) => `${name}: ${f}`));
		if (shots) writeFileSync(`${shots}/${name}-${look}.png`, await page.screenshot());
	}
}
for (const look of Object.keys(looks))
	ok(!found[look].length, `every page can be read: ${look}`, found[look].join('\n'));

// ---- who may only look, and who must say a token
await page.resize(1360, 900);
await page.dark(false);
await page.goto(`${readonly}/d/shop/overview`);
await page.until(() => document.querySelector('table.queues'));
is(
	await page.run(
		() =>
			[...document.querySelectorAll('main button')].filter((b) => /Pause|Resume|Retry/.test(b.textContent))
				.length,
	),
	0,
	'without --write nothing is offered that changes something',
);
await page.see('read-only', '#top');
await page.goto(`${readonly}/d/shop/jobs?state=discarded`);
await page.until(() => document.querySelector('table.jobs tbody tr'));
is(await page.run(() => document.querySelectorAll('table.jobs input, .bulk').length), 0, 'nor to pick jobs for');
await page.goto(locked);
await page.until(() => document.querySelector('input[type=password]'));
await page.type('input[type=password]', 'wrong token');
await page.see('That is not the token', 'main');
await page.type('input[type=password]', process.env.TOKEN);
await page.until(() => document.querySelector('table.queues'));
ok(true, 'a wrong token is told, the right one opens the pages');

is(await page.run(() => typeof window.pwned), 'undefined', 'no script of a payload ran');
// but for the id that never was, and the token that was wrong
is(
	page.problems.filter((p) => !/job\?id=999999999|status of 401/.test(p)),
	[],
	'the browser complained of nothing: no error, nothing refused by the content security policy',
);
const own = [base, readonly, locked];
// data: is the calendar in a field for a time, which Chromium draws
is(
	page.requests.filter(
		(u) => !own.some((b) => u.startsWith(`${b}/`)) && u !== 'about:blank' && !u.startsWith('data:'),
	),
	[],
	'no address outside was asked for',
);

await browser.close();
console.log(`1..${tests}`);
process.exitCode = failures ? 1 : 0;
