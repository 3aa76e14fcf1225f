// api.js: asks the server and says what it answers; knows the session and its CSRF token.

import { setServerTime } from './format.js';

export class ApiError extends Error {
	constructor(status, { code, message, hint } = {}) {
		super(message || `The server answered ${status}`);
		this.status = status;
		this.code = code || '';
		this.hint = hint || '';
	}
}

async function call(url, options) {
	let response;
	try {
		response = await fetch(url, { credentials: 'same-origin', ...options });
	} catch (error) {
		if (error.name === 'AbortError') throw error;
		throw new ApiError(0, {
			code: 'unreachable',
			message: 'queue-web does not answer',
			hint: 'It is asked again.',
		});
	}
	if (response.status === 204) return null;
	const body = await response.json().catch(() => null);
	if (!response.ok || body === null) throw new ApiError(response.status, (body && body.error) || {});
	if (body.at) setServerTime(body.at);
	return body;
}

export const session = { csrf: '', write: false, login: false, version: '', databases: [] };

export async function readSession() {
	Object.assign(session, await call('/api/session'));
	return session;
}

export function databases() {
	return call('/api/databases');
}

export async function login(token) {
	await call('/login', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: token });
}

export async function logout() {
	await call('/logout', { method: 'POST', headers: { 'X-Queue-CSRF': session.csrf } });
}

// A view of one database: its data, and `at`, the server's time of it in ms.
export async function view(db, name, params = {}) {
	const query = new URLSearchParams();
	for (const [key, value] of Object.entries(params))
		if (value !== null && value !== undefined && value !== '') query.set(key, value);
	const text = query.toString();
	const { data, at } = await call(`/api/d/${encodeURIComponent(db)}/${name}${text ? `?${text}` : ''}`);
	return { data, at: Date.parse(at) };
}

// body: text that is JSON, so that numbers in a filter pass as they were typed; or an object.
async function post(path, body) {
	const send = () =>
		call(path, {
			method: 'POST',
			headers: { 'Content-Type': 'application/json', 'X-Queue-CSRF': session.csrf },
			body: typeof body === 'string' ? body : JSON.stringify(body),
		});
	try {
		return (await send()).data;
	} catch (error) {
		// The server was started again meanwhile: it has another token.
		if (error.code !== 'csrf') throw error;
		await readSession();
		return (await send()).data;
	}
}

export function act(db, action, body) {
	return post(`/api/d/${encodeURIComponent(db)}/do/${action}`, body);
}

export function countFor(db, action, body) {
	return post(`/api/d/${encodeURIComponent(db)}/count/${action}`, body);
}
