// BullMQ: workers with retries, delays, priorities, flows, schedulers, limits and events. Arguments: port.
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require("bullmq");
const Redis = require("ioredis");
const { assert, port, run } = require("./common.cjs");

const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };

run(async () => {
  const queue = new Queue("work", { connection });
  const events = new QueueEvents("work", { connection });
  await events.waitUntilReady();
  const done = async (job) => job.waitUntilFinished(events, 30_000);
  const order = [];
  const process = async (job) => {
    if (job.name === "fail") throw new UnrecoverableError("broken on purpose");
    if (job.name === "third" && job.attemptsMade < 2) throw new Error("not yet");
    if (job.name === "progress") await job.updateProgress(50);
    if (job.name === "sum") return Object.values(await job.getChildrenValues()).reduce((sum, value) => sum + value, 0);
    order.push(job.data.n);
    return job.data.n * 2;
  };
  const waiting = await queue.addBulk([1, 2, 3, 4].map((n) => ({ name: "double", data: { n }, opts: { priority: 5 - n } })));
  assert.deepEqual(await queue.getJobCounts("waiting", "prioritized", "delayed"), { waiting: 0, prioritized: 4, delayed: 0 });
  const late = await queue.add("double", { n: 99 }, { delay: 3_600_000, jobId: "late" });
  const progress = new Promise((resolve) => events.on("progress", ({ data }) => resolve(data)));
  const worker = new Worker("work", process, { connection, concurrency: 1, drainDelay: 1 });
  assert.deepEqual(await Promise.all(waiting.map(done)), [2, 4, 6, 8]);
  assert.deepEqual(order, [4, 3, 2, 1]);
  const third = await queue.add("third", { n: 5 }, { attempts: 3, backoff: { type: "fixed", delay: 50 } });
  assert.equal(await done(third), 10);
  assert.equal((await queue.getJob(third.id)).attemptsMade, 3);
  const failing = await queue.add("fail", {});
  await assert.rejects(done(failing), /broken on purpose/);
  assert.equal(await failing.getState(), "failed");
  assert.deepEqual((await queue.getFailed()).map((job) => job.id), [failing.id]);
  await done(await queue.add("progress", { n: 1 }));
  assert.equal(await progress, 50);
  const begin = Date.now();
  await done(await queue.add("double", { n: 6 }, { delay: 500 }));
  assert.ok(Date.now() - begin >= 450, "it ran too early");
  await queue.add("double", { n: 7 }, { jobId: "once", removeOnComplete: true });
  await late.promote();
  assert.equal(await done(late), 198);

  const flow = new FlowProducer({ connection });
  const children = [1, 2, 3].map((n) => ({ name: "double", queueName: "work", data: { n } }));
  const tree = await flow.add({ name: "sum", queueName: "work", data: {}, children });
  assert.equal(await done(tree.job), 12);

  await queue.upsertJobScheduler("often", { every: 200 }, { name: "double", data: { n: 8 } });
  const repeated = await new Promise((resolve) => worker.on("completed", (job) => job.repeatJobKey && resolve(job.name)));
  assert.equal(repeated, "double");
  assert.equal((await queue.getJobSchedulers()).length, 1);
  assert.equal(await queue.removeJobScheduler("often"), true);

  await queue.pause();
  assert.equal(await queue.isPaused(), true);
  const parked = await queue.add("double", { n: 10 });
  assert.equal(await parked.getState(), "waiting");
  await queue.resume();
  assert.equal(await done(parked), 20);
  await queue.setGlobalConcurrency(2);
  assert.equal(await queue.getGlobalConcurrency(), 2);
  assert.ok((await queue.getWorkers()).length >= 1);
  await queue.clean(0, 1000, "completed");
  assert.equal((await queue.getJobCounts("completed")).completed, 0);
  await worker.close();
  await queue.obliterate({ force: true });
  await Promise.all([flow.close(), events.close()]);
  await queue.close();
  const client = new Redis(connection);
  assert.deepEqual((await client.keys("bull:*")).filter((key) => !/:(events|meta|id)$/.test(key)), []);
  await client.quit();
});
