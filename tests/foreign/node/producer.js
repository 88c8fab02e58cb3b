// A producer for Counterfoil in Node, written from docs/PROTOCOL.md, with amqplib.
//
//   AMQP_URL=amqp://shop:secret@localhost/ node producer.js order.place '{"sku":"A1"}'
//
// Submits one job, waits until it is done, asks for its status; prints one JSON line for each thing
// that it learns. It does not reconnect: a connection that fails ends it, and whoever starts it
// again with the same JOB_ID sends the same job again, which is the same job to the server. Exit
// status: 0 succeeded, 3 the job ended otherwise or was refused, 1 anything else.
'use strict';

const { randomUUID } = require('node:crypto');
const amqp = require('amqplib');

const print = (kind, said) => console.log(JSON.stringify({ kind, ...said }));

async function produce(url, type, body, jobId) {
  const client = decodeURIComponent(new URL(url).username);
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();

  const replyTo = `reply.${client}.node-1`; // one for each machine or process
  await channel.assertQueue(replyTo, {
    durable: true,
    arguments: {
      'x-queue-type': 'classic',
      'x-expires': 7 * 24 * 3600 * 1000,
      'x-max-length-bytes': 100 * 1024 * 1024,
      'x-overflow': 'reject-publish',
    },
  });

  // Both exchanges take every routing key, so `mandatory` is not needed; the confirm is.
  const me = { userId: client, replyTo, correlationId: jobId, persistent: true };
  const publish = async (exchange, key, content, more) => {
    channel.publish(exchange, key, Buffer.from(content), { ...me, ...more });
    await channel.waitForConfirms(); // rejects if the queue is full: publish it again later
  };

  // What came of each kind; no order between the kinds is promised.
  const came = {};
  const act = async (kind, said) => {
    print(kind, said);
    came[kind] = said;
    if (kind === 'event') {
      await publish('counterfoil.request', 'status', JSON.stringify({ job_id: jobId }));
    }
    return kind === 'refusal' || (came.receipt && came.event && came.status);
  };

  const ended = new Promise((resolve, reject) => {
    connection.on('error', reject);
    connection.on('close', () => reject(new Error('the connection closed')));
    channel.on('error', reject);
    channel.consume(replyTo, async (message) => {
      try {
        if (message === null) throw new Error(`${replyTo} was deleted`);
        const { type: kind, correlationId } = message.properties;
        // What is left of an earlier run is passed over; a program that keeps jobs looks it up.
        const isOurs = correlationId === jobId;
        const isEnd = isOurs && (await act(kind, JSON.parse(message.content.toString())));
        channel.ack(message); // after acting on it, not before
        if (isEnd) resolve();
      } catch (error) {
        reject(error);
      }
    }).catch(reject);
  });
  const submitted = publish('counterfoil.submit', type, body, {
    messageId: jobId,
    contentType: 'application/json',
    headers: { 'job-notify': 'terminal' },
  });
  await Promise.all([submitted, ended]);
  await channel.close(); // after the last acknowledgement has gone
  await connection.close();
  return came.event?.state === 'succeeded' ? 0 : 3;
}

const [type, body] = process.argv.slice(2);
if (!process.env.AMQP_URL || body === undefined) {
  console.error('usage: AMQP_URL=amqp://user:password@host/ node producer.js TYPE BODY');
  process.exit(2);
}
const jobId = process.env.JOB_ID ?? randomUUID(); // yours: write it down before you send it
print('id', { job_id: jobId });
produce(process.env.AMQP_URL, type, body, jobId).then(
  (status) => { process.exitCode = status; },
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
