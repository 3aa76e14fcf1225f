// cron.js: a line of a schedule in words.

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
const MONTHS = [
	'',
	'January',
	'February',
	'March',
	'April',
	'May',
	'June',
	'July',
	'August',
	'September',
	'October',
	'November',
	'December',
];
const NAMED = {
	'@hourly': '0 * * * *',
	'@daily': '0 0 * * *',
	'@midnight': '0 0 * * *',
	'@weekly': '0 0 * * 0',
	'@monthly': '0 0 1 * *',
	'@yearly': '0 0 1 1 *',
	'@annually': '0 0 1 1 *',
};

const list = (parts) =>
	parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts[parts.length - 1]}`;
const two = (n) => String(n).padStart(2, '0');

// "mon" or "jan" as its number.
function number(text, names) {
	if (/^\d+$/.test(text)) return Number(text);
	const at = names ? names.findIndex((n) => n && n.slice(0, 3).toLowerCase() === text.toLowerCase().slice(0, 3)) : -1;
	if (at < 0) throw new SyntaxError(text);
	return at;
}

// One field in words: each value by `name`, "every 5 .." for steps.
function field(text, unit, name, names) {
	const step = /^\*\/(\d+)$/.exec(text);
	if (step) return Number(step[1]) === 1 ? `every ${unit}` : `every ${step[1]} ${unit}s`;
	return list(
		text.split(',').map((part) => {
			const m = /^([\w$*]+)(?:-(\w+))?(?:\/(\d+))?$/.exec(part);
			if (!m) throw new SyntaxError(part);
			const by = m[3] ? ` every ${m[3]} ${unit}s` : '';
			if (m[1] === '*') return `every ${m[3] || ''} ${unit}${m[3] ? 's' : ''}`;
			if (m[1] === '$') return 'the last';
			return m[2]
				? `${name(number(m[1], names))} to ${name(number(m[2], names))}${by}`
				: `${name(number(m[1], names))}${by}`;
		}),
	);
}

const ordinal = (n) =>
	`${n}${n % 10 === 1 && n !== 11 ? 'st' : n % 10 === 2 && n !== 12 ? 'nd' : n % 10 === 3 && n !== 13 ? 'rd' : 'th'}`;

function clockPart(minute, hour) {
	const times = (text) => /^\d+(,\d+)*$/.test(text);
	if (times(minute) && times(hour)) {
		const all = hour.split(',').flatMap((x) => minute.split(',').map((y) => `${two(x)}:${two(y)}`));
		if (all.length <= 6) return `at ${list(all)}`;
	}
	if (hour === '*') {
		if (minute === '*') return 'every minute';
		return minute.startsWith('*/')
			? field(minute, 'minute')
			: `at minute ${field(minute, 'minute', String)} of every hour`;
	}
	const hours = field(hour, 'hour', (n) => `${two(n)}:00`);
	const at = hours.startsWith('every')
		? hours
		: `in the ${hour.includes(',') || hour.includes('-') ? 'hours' : 'hour'} ${hours}`;
	if (minute === '*') return `every minute, ${at}`;
	if (minute === '0' && hours.startsWith('every')) return hours;
	return minute.startsWith('*/')
		? `${field(minute, 'minute')}, ${at}`
		: `at minute ${field(minute, 'minute', String)}, ${at}`;
}

// Null for what it does not understand.
export function inWords(cron) {
	const seconds = /^\s*(\d+)\s+seconds?\s*$/i.exec(cron);
	if (seconds) return Number(seconds[1]) === 1 ? 'every second' : `every ${seconds[1]} seconds`;
	const fields = (NAMED[cron.trim().toLowerCase()] || cron).trim().split(/\s+/);
	if (fields.length !== 5) return null;
	const [minute, hour, day, month, weekday] = fields;
	try {
		const said = [clockPart(minute, hour)];
		const days = [];
		if (day !== '*')
			days.push(
				day.startsWith('*/')
					? field(day, 'day')
					: day === '$'
						? 'on the last day of the month'
						: `on the ${field(day, 'day', ordinal)}`,
			);
		if (weekday !== '*')
			days.push(
				weekday.startsWith('*/')
					? field(weekday, 'weekday')
					: `${weekday.includes('-') ? '' : 'on '}${field(weekday, 'day', (n) => DAYS[n], DAYS)}`,
			);
		if (days.length) said.push(days.join(day.startsWith('*') || weekday.startsWith('*') ? ' and ' : ' or '));
		else if (said[0].startsWith('at ') && !said[0].includes('hour')) said.push('every day');
		if (month !== '*')
			said.push(
				month.startsWith('*/')
					? field(month, 'month')
					: `in ${field(month, 'month', (n) => MONTHS[n], MONTHS)}`,
			);
		const text = said.join(', ');
		return text.includes('undefined') ? null : text;
	} catch {
		return null;
	}
}
