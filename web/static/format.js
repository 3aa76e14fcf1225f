// format.js: numbers, times and spans as people read them.

import { h } from './dom.js';

const COUNT = new Intl.NumberFormat('en');
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const EXACT = new Intl.DateTimeFormat(undefined, {
	year: 'numeric',
	month: 'short',
	day: 'numeric',
	hour: '2-digit',
	minute: '2-digit',
	second: '2-digit',
	timeZoneName: 'short',
});
const CLOCK = new Intl.DateTimeFormat(undefined, {
	hour: '2-digit',
	minute: '2-digit',
	second: '2-digit',
	hourCycle: 'h23',
});
const DAY = new Intl.DateTimeFormat(undefined, {
	month: 'short',
	day: 'numeric',
	hour: '2-digit',
	minute: '2-digit',
	hourCycle: 'h23',
});
const FAR = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: 'numeric' });

// The server's clock less the browser's, in ms; spans are counted by the server's.
let skew = null;
export function setServerTime(iso) {
	const at = Date.parse(iso);
	// An answer may be some seconds old, because browsers share answers: the youngest one tells the clock.
	if (!Number.isNaN(at)) skew = skew === null ? at - Date.now() : Math.max(skew, at - Date.now());
}
export function serverNow() {
	return Date.now() + (skew || 0);
}

export function count(n) {
	return n === null || n === undefined ? '–' : COUNT.format(n);
}

// Like count, but 1.2M for what is too long for a column.
export function short(n) {
	if (n === null || n === undefined) return '–';
	return Math.abs(n) < 100000 ? COUNT.format(n) : SHORT.format(n);
}

export function plural(n, one, many = one + 's') {
	return `${count(n)} ${Number(n) === 1 ? one : many}`;
}

// 340 ms, 12 s, 3 min, 2 h 5 min, 4 days
export function span(seconds) {
	if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '–';
	const s = Math.max(seconds, 0);
	if (s > 0 && s < 0.001) return '< 1 ms';
	if (s < 1) return `${Math.round(s * 1000)} ms`;
	if (s < 10) return `${Math.round(s * 10) / 10} s`;
	if (s < 120) return `${Math.round(s)} s`;
	if (s < 7200) return `${Math.floor(s / 60)} min`;
	if (s < 172800) {
		const minutes = Math.floor(s / 60) % 60;
		return `${Math.floor(s / 3600)} h${s < 36000 && minutes ? ` ${minutes} min` : ''}`;
	}
	return `${COUNT.format(Math.floor(s / 86400))} days`;
}

export function ms(value) {
	return value === null || value === undefined ? '–' : span(value / 1000);
}

export function secondsSince(iso) {
	return (serverNow() - Date.parse(iso)) / 1000;
}

export function exact(iso) {
	const date = new Date(iso);
	return Number.isNaN(date.getTime()) ? String(iso) : `${EXACT.format(date)}\n${date.toISOString()}`;
}

// "3 min ago" or "in 2 h", with the exact time in the viewer's zone and in UTC on hover.
export function when(iso, none = '–') {
	if (!iso) return none;
	if (Number.isNaN(Date.parse(iso))) return String(iso);
	const s = secondsSince(iso);
	const text = Math.abs(s) < 1 ? 'now' : s > 0 ? `${span(s)} ago` : `in ${span(-s)}`;
	return h('time', { datetime: iso, title: exact(iso) }, text);
}

// The time of day, and the day if it is another one.
export function clock(iso) {
	if (!iso) return '–';
	const date = new Date(iso);
	if (Number.isNaN(date.getTime())) return String(iso);
	const near = Math.abs(serverNow() - date.getTime()) < 43200000;
	const far = Math.abs(serverNow() - date.getTime()) > 25e9;
	return h('time', { datetime: iso, title: exact(iso) }, (near ? CLOCK : far ? FAR : DAY).format(date));
}

// The server's sentence, with the times in it as the viewer's.
export function told(text) {
	const parts = [];
	let at = 0;
	for (const m of String(text).matchAll(/(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(:\d\d)?/g)) {
		parts.push(text.slice(at, m.index), clock(`${m[1]}T${m[2]}${m[3]}${m[4] || ':00'}`));
		at = m.index + m[0].length;
	}
	return [...parts, text.slice(at)];
}

// How long ago, as an age alone.
export function age(iso) {
	if (!iso) return '–';
	return h('time', { datetime: iso, title: exact(iso) }, span(secondsSince(iso)));
}
