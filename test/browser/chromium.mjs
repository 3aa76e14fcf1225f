// chromium.mjs: drives a headless Chromium over its debugging pipe (two file descriptors, JSON between zero bytes),
// so that nothing but Debian's package is needed.
//
// Nothing here has a limit of its own: what a test awaits comes, or the whole run is cut short from outside and its
// last line says where it stood.

import { spawn } from 'node:child_process';

// Nothing can go on after that.
function die(text) {
	console.log(`Bail out! ${text}`);
	process.exit(1);
}

export async function launch(program, profile) {
	const options = [
		'--headless=new',
		'--remote-debugging-pipe',
		`--user-data-dir=${profile}`,
		'--no-first-run',
		'--no-default-browser-check',
		'--disable-gpu',
		'--disable-dev-shm-usage',
		'--disable-background-networking',
		'--disable-component-update',
		'--disable-sync',
		'--disable-breakpad',
		'--disable-crash-reporter',
		'--disable-extensions',
		'--mute-audio',
		'--hide-scrollbars',
		'--disable-features=Translate,MediaRouter,OptimizationHints',
		'--disable-background-timer-throttling',
		'--disable-renderer-backgrounding',
		'--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
		'--force-color-profile=srgb',
		'--lang=en-US',
	];
	if (process.getuid() === 0) options.push('--no-sandbox'); // which Chromium refuses to have as root
	const child = spawn(program, [...options, 'about:blank'], {
		stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
	});
	const [, , said, to, from] = child.stdio;
	let complaint = ''; // the end of what it wrote to stderr
	said.setEncoding('utf8');
	said.on('data', (text) => {
		complaint = (complaint + text).slice(-2000);
	});
	let closing = false;
	const waiting = new Map();
	const sessions = new Map();
	let last = 0;
	let rest = '';
	from.setEncoding('utf8');
	from.on('data', (chunk) => {
		const parts = (rest + chunk).split('\0');
		rest = parts.pop();
		for (const part of parts) {
			const message = JSON.parse(part);
			if (message.id) {
				const { resolve, reject } = waiting.get(message.id);
				waiting.delete(message.id);
				if (message.error) reject(new Error(message.error.message));
				else resolve(message.result);
			} else if (sessions.has(message.sessionId)) sessions.get(message.sessionId)(message.method, message.params);
		}
	});
	const send = (method, params = {}, sessionId = undefined) =>
		new Promise((resolve, reject) => {
			waiting.set(++last, { resolve, reject });
			to.write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
		});
	const ended = new Promise((resolve) => {
		child.on('exit', (code) => {
			if (!closing) die(`Chromium ended with ${code}: ${complaint}`);
			resolve();
		});
	});
	to.on('error', () => null); // its end is told above
	child.on('error', (error) => die(error.message));
	return {
		version: (await send('Browser.getVersion')).product,
		open: (width, height) => openPage(send, sessions, width, height),
		close: async () => {
			send('Browser.close').catch(() => null);
			closing = true;
			await ended;
		},
	};
}

async function openPage(send, sessions, width, height) {
	const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
	const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
	const problems = []; // what the browser complained of: scripts, the content security policy, answers that failed
	const requests = []; // every address that the page asked for
	let loaded = () => null;
	let awaited = '';
	sessions.set(sessionId, (method, params) => {
		if (method === 'Runtime.exceptionThrown')
			problems.push(params.exceptionDetails.exception?.description || params.exceptionDetails.text);
		else if (method === 'Log.entryAdded' && params.entry.level === 'error')
			problems.push(`${params.entry.text} ${params.entry.url || ''}`);
		else if (method === 'Runtime.consoleAPICalled' && params.type === 'error')
			problems.push(JSON.stringify(params.args.map((a) => a.value)));
		else if (method === 'Network.requestWillBeSent') requests.push(params.request.url);
		else if (method === 'Page.loadEventFired') loaded();
		else if (method === 'Inspector.targetCrashed') die('the page crashed');
	});
	const cdp = (method, params) => send(method, params, sessionId);
	for (const domain of ['Inspector', 'Page', 'Runtime', 'Log', 'Network']) await cdp(`${domain}.enable`);

	const evaluate = async (expression) => {
		const { result, exceptionDetails } = await cdp('Runtime.evaluate', {
			expression,
			awaitPromise: true,
			returnByValue: true,
		});
		if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
		return result.value;
	};
	// A function of the page, called there with these values.
	const run = (f, ...args) => evaluate(`(${f})(${args.map((a) => JSON.stringify(a)).join(', ')})`);
	const page = {
		problems,
		requests,
		run,
		resize: (w, h, narrow = false) =>
			cdp('Emulation.setDeviceMetricsOverride', { width: w, height: h, deviceScaleFactor: 1, mobile: narrow }),
		dark: (on) =>
			cdp('Emulation.setEmulatedMedia', {
				features: [
					{ name: 'prefers-color-scheme', value: on ? 'dark' : 'light' },
					{ name: 'prefers-reduced-motion', value: 'reduce' },
				],
			}),
		zone: (timezoneId) => cdp('Emulation.setTimezoneOverride', { timezoneId }),
		// Before any script of every page that comes.
		always: (f) => cdp('Page.addScriptToEvaluateOnNewDocument', { source: `(${f})()` }),
		goto: async (url) => {
			const done = new Promise((resolve) => {
				loaded = resolve;
			});
			await cdp('Page.navigate', { url });
			await done;
		},
		// Until the function is true there; gives what it gave.
		until: (f, ...args) =>
			(awaited = `${f} ${JSON.stringify(args)}`) &&
			evaluate(`new Promise((resolve, reject) => {
			const look = () => {
				let v;
				try { v = (${f})(${args.map((a) => JSON.stringify(a)).join(', ')}); } catch (error) {
					clearInterval(timer);
					reject(error);
					return true;
				}
				if (v) { clearInterval(timer); resolve(v); }
				return !!v;
			};
			const timer = setInterval(look, 50);
			look();
		})`),
		// The first visible element of that selector, with that text if one is given, is clicked when it is there and
		// nothing covers it.
		click: (selector, text = null) =>
			page.until(
				(s, t) => {
					for (const el of document.querySelectorAll(s)) {
						if (t !== null && !el.textContent.includes(t)) continue;
						el.scrollIntoView({ block: 'center' });
						const box = el.getBoundingClientRect();
						const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
						if (!hit || !(el.contains(hit) || hit.contains(el)) || el.disabled) continue;
						el.click();
						return true;
					}
					return false;
				},
				selector,
				text,
			),
		see: (text, selector = 'body') =>
			page.until(
				(t, s) => [...document.querySelectorAll(s)].some((el) => el.textContent.includes(t)),
				text,
				selector,
			),
		gone: (text, selector = 'body') =>
			page.until(
				(t, s) => ![...document.querySelectorAll(s)].some((el) => el.textContent.includes(t)),
				text,
				selector,
			),
		type: async (selector, text, enter = true) => {
			await page.until((s) => document.querySelector(s), selector);
			await run((s) => {
				const el = document.querySelector(s);
				el.focus();
				if (el.select) el.select();
			}, selector);
			await cdp('Input.insertText', { text });
			if (enter) await page.key('Enter');
		},
		key: async (key) => {
			const special = { Enter: [13, '\r'], Escape: [27, ''], Tab: [9, ''] }[key];
			const code = special ? special[0] : key.toUpperCase().charCodeAt(0);
			const text = special ? special[1] : key;
			await cdp('Input.dispatchKeyEvent', {
				type: text ? 'keyDown' : 'rawKeyDown',
				key,
				text: text || undefined,
				windowsVirtualKeyCode: code,
			});
			await cdp('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode: code });
		},
		screenshot: async (full = true) => {
			const { cssContentSize } = await cdp('Page.getLayoutMetrics');
			const clip = full
				? { x: 0, y: 0, width: cssContentSize.width, height: Math.min(cssContentSize.height, 3000), scale: 1 }
				: undefined;
			return Buffer.from(
				(await cdp('Page.captureScreenshot', { format: 'png', clip, captureBeyondViewport: full })).data,
				'base64',
			);
		},
	};
	// Whoever cuts the run short gets told what was awaited, and what the page looked like.
	process.on('SIGTERM', async () => {
		console.log(`# awaited: ${awaited.replace(/\s+/g, ' ')}`);
		setTimeout(() => process.exit(1), 3000);
		const seen = await run(() => `${location.href}\n${document.body.innerText}`).catch((error) => error.message);
		console.log(
			`${[...problems, seen]
				.join('\n')
				.split('\n')
				.map((l) => `#   ${l}`)
				.slice(0, 80)
				.join('\n')}`,
		);
		process.exit(1);
	});
	await page.resize(width, height);
	await page.dark(false);
	return page;
}
