// BullMQ: no-op jobs through Redis alone.
//
// What it measures: the time from the first `add` until Redis has the last job in the set of the
// completed ones. One process submits and runs the jobs, with a concurrency of 500. It submits one
// by one, and waits for no reply as long as not too many are open.
//
// What it guarantees: a job and its state are as durable as the Redis is. With `appendfsync
// everysec` a crash of the machine can lose the last second, jobs that `add` has returned included.
// A job whose worker is lost is found stalled, and run again: at least once. Completed jobs are
// kept.
//
//   REDIS_URL=redis://127.0.0.1:6379/9 NODE_PATH=<target>/node/node_modules
//       node bullmq_peer.mjs --jobs 10000 --bytes 200 --in-flight 512
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';

// NODE_PATH is for `require` only.
const require = createRequire(import.meta.url);

const NAME = 'peer-bullmq';
const CONCURRENCY = 500;
const WARM_UP = 500;
const PAUSE_MS = 20;
// Without a single new completed job for so long, a run has failed.
const STALLED_AFTER_MS = 120_000;

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '10000' },
    bytes: { type: 'string', default: '200' },
    'in-flight': { type: 'string', default: '512' },
  },
});
const jobs = Number(values.jobs);
const inFlight = Math.max(1, Number(values['in-flight']));
const data = { body: 'x'.repeat(Number(values.bytes)) };

// As many loops as may be in flight, each with one submission at a time.
async function submit(queue, count) {
  let next = 0;
  const loop = async () => {
    while (next < count) {
      next += 1;
      await queue.add('noop', data);
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, count) }, loop));
}

async function completed(queue, count) {
  let last = -1;
  let moved = Date.now();
  for (;;) {
    const counts = await queue.getJobCounts('completed', 'failed');
    if (counts.failed > 0) throw new Error(`${counts.failed} jobs failed`);
    if (counts.completed >= count) return;
    if (counts.completed > last) {
      last = counts.completed;
      moved = Date.now();
    } else if (Date.now() - moved > STALLED_AFTER_MS) {
      throw new Error(`${last} of ${count} jobs completed, and no more came`);
    }
    await pause(PAUSE_MS);
  }
}

async function measure(queue) {
  await submit(queue, WARM_UP);
  await completed(queue, WARM_UP);
  await queue.clean(0, WARM_UP, 'completed');

  const start = performance.now();
  await submit(queue, jobs);
  const submitted = performance.now() - start;
  await completed(queue, jobs);
  const seconds = (performance.now() - start) / 1000;

  const counts = await queue.getJobCounts();
  for (const [state, count] of Object.entries(counts)) {
    if (count !== (state === 'completed' ? jobs : 0)) {
      throw new Error(`in the end ${count} jobs are ${state}`);
    }
  }
  return { seconds, submitted: submitted / 1000 };
}

async function run() {
  if (!process.env.REDIS_URL) throw new Error('REDIS_URL is not set');
  const { Queue, Worker } = require('bullmq');
  const { Redis } = require('ioredis');
  const store = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: 3 });
  store.on('error', () => {}); // a command that fails for it says so
  await store.flushdb();

  const connection = { url: process.env.REDIS_URL, maxRetriesPerRequest: null };
  const queue = new Queue(NAME, { connection, defaultJobOptions: { removeOnComplete: false } });
  const worker = new Worker(NAME, async () => {}, { connection, concurrency: CONCURRENCY });
  worker.on('error', (error) => console.error(String(error)));
  process.once('SIGTERM', async () => {
    await store.flushdb();
    process.exit(143);
  });
  try {
    await worker.waitUntilReady();
    return await measure(queue);
  } finally {
    await worker.close();
    await queue.close();
    await store.flushdb();
    await store.quit();
  }
}

const version = (name) => require(`${name}/package.json`).version;
try {
  const { seconds, submitted } = await run();
  console.log(JSON.stringify({
    peer: 'bullmq',
    jobs,
    seconds: Number(seconds.toFixed(3)),
    submitted_seconds: Number(submitted.toFixed(3)),
    versions: { bullmq: version('bullmq'), ioredis: version('ioredis'), node: process.versions.node },
  }));
} catch (error) {
  console.error(`bullmq: ${String(error).replace(/\s+/g, ' ')}`);
  process.exit(1);
}
