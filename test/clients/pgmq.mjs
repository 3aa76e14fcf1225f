// Every call of pgmq-js, a client of pgmq, on extension queue_pgmq.
import { Pgmq } from 'pgmq-js';

const pgmq = await Pgmq.new({ ssl: false }, { skipExtensionCreation: true });   // the rest by PGHOST, PGPORT ..
const check = async (name, call, expected) => {
  try {
    const got = JSON.stringify(await call() ?? null);
    console.log(got === JSON.stringify(expected) ? `ok ${name}` : `not ok ${name}: got ${got}`);
  } catch (e) { console.log(`not ok ${name}: ${e.message}`); }
};
const seen = (m) => m === undefined ? m : [m.msgId, m.readCount, m.message];

await check('create', () => pgmq.queue.create('orders'), null);
await check('create unlogged', () => pgmq.queue.createUnlogged('fast'), null);
await check('list', async () => (await pgmq.queue.list()).map((q) => [q.name, q.isPartitioned, q.isUnlogged]), [['orders', false, false], ['fast', false, true]]);
await check('send', () => pgmq.msg.send('orders', { n: 1 }), 1);
await check('send later', () => pgmq.msg.send('orders', { n: 2 }, 1000), 2);
await check('send many', () => pgmq.msg.sendBatch('orders', [{ n: 3 }, { n: 4 }, { n: 5 }]), [3, 4, 5]);
await check('read', async () => seen(await pgmq.msg.read('orders', 1000)), [1, 1, { n: 1 }]);
await check('read many', async () => (await pgmq.msg.readBatch('orders', 1000, 2)).map(seen), [[3, 1, { n: 3 }], [4, 1, { n: 4 }]]);
await check('set what was read free', async () => seen(await pgmq.msg.setVt('orders', 1, 0)), [1, 1, { n: 1 }]);
await check('it is read again', async () => seen(await pgmq.msg.read('orders', 1000)), [1, 2, { n: 1 }]);
await check('set what was never read free', async () => seen(await pgmq.msg.setVt('orders', 2, 0)), [2, 0, { n: 2 }]);
await check('pop', async () => seen(await pgmq.msg.pop('orders')), [5, 0, { n: 5 }]);
await check('archive', () => pgmq.msg.archive('orders', 1), true);
await check('archive what is not there', () => pgmq.msg.archive('orders', 99), false);
await check('archive many', () => pgmq.msg.archiveBatch('orders', [3, 99]), [3]);
await check('delete', () => pgmq.msg.delete('orders', 4), true);
await check('delete many', () => pgmq.msg.deleteBatch('orders', [4, 2]), [2]);
await check('nothing is left to read', async () => seen(await pgmq.msg.read('orders', 1000)) ?? null, null);
await check('metrics', async () => { const m = await pgmq.queue.getMetrics('orders'); return [m.queueName, m.queueLength, m.totalMessages]; }, ['orders', 0, 5]);
await check('metrics of all', async () => (await pgmq.queue.getAllMetrics()).length, 2);
await check('purge', () => pgmq.queue.purge('orders'), null);
await check('detach the archive', () => pgmq.queue.detachArchive('orders'), null);
await check('drop', () => pgmq.queue.drop('orders'), null);
await pgmq.close();
