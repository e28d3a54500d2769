// Sessions of connect-redis, limits of rate-limiter-flexible, redlock, and jobs of bee-queue. Arguments: port.
const { createClient } = require("redis");
const Redis = require("ioredis");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { RateLimiterRedis } = require("rate-limiter-flexible");
const Redlock = require("redlock");
const Bee = require("bee-queue");
const { assert, port, run } = require("./common.cjs");

const calls = (store, name, ...rest) =>
  new Promise((resolve, reject) => store[name](...rest, (error, value) => (error ? reject(error) : resolve(value))));

async function sessions() {
  const client = await createClient({ socket: { port } }).connect();
  const store = new RedisStore({ client, prefix: "web:", ttl: 300 });
  const cookie = new session.Cookie({ maxAge: 60_000 });
  for (const name of ["ann", "bob"]) await calls(store, "set", name, { name, cookie });
  assert.equal((await calls(store, "get", "ann")).name, "ann");
  assert.equal(await calls(store, "get", "nosuch"), null);
  assert.ok((await client.ttl("web:ann")) <= 60);
  await calls(store, "touch", "bob", { name: "bob", cookie: new session.Cookie({ maxAge: 900_000 }) });
  assert.ok((await client.ttl("web:bob")) > 60);
  assert.equal(await calls(store, "length"), 2);
  assert.deepEqual((await calls(store, "ids")).sort(), ["ann", "bob"]);
  assert.equal((await calls(store, "all")).length, 2);
  await calls(store, "destroy", "ann");
  await calls(store, "clear");
  assert.equal(await calls(store, "length"), 0);
  await client.close();
}

async function limits() {
  const storeClient = new Redis({ port });
  const limiter = new RateLimiterRedis({ storeClient, points: 3, duration: 60, blockDuration: 120, keyPrefix: "limit" });
  for (const left of [2, 1, 0]) assert.equal((await limiter.consume("ann")).remainingPoints, left);
  const refused = await limiter.consume("ann").catch((reply) => reply);
  assert.ok(refused.msBeforeNext > 60_000 && refused.remainingPoints === 0);
  assert.equal((await limiter.consume("bob", 2)).remainingPoints, 1);
  assert.equal((await limiter.reward("bob", 1)).remainingPoints, 2);
  assert.equal((await limiter.get("bob")).consumedPoints, 1);
  assert.equal(await limiter.delete("ann"), true);
  assert.equal(await limiter.get("ann"), null);
  await storeClient.quit();
}

async function locks() {
  const client = new Redis({ port });
  const redlock = new Redlock([client], { retryCount: 0 });
  const lock = await redlock.lock("printer", 5000);
  await assert.rejects(redlock.lock("printer", 5000), /Exceeded 0 attempts/);
  await (await lock.extend(20_000)).unlock();
  assert.equal(await client.exists("printer"), 0);
  const patient = new Redlock([client], { retryCount: 500, retryDelay: 5 });
  let inside = 0;
  const holders = [...Array(5)].map(async () => {
    const held = await patient.lock("printer", 20_000);
    inside += 1;
    assert.equal(inside, 1);
    await client.incr("printed");
    inside -= 1;
    await held.unlock();
  });
  await Promise.all(holders);
  assert.equal(await client.get("printed"), "5");
  await client.quit();
}

async function jobs() {
  const queue = new Bee("work", { redis: { port }, activateDelayedJobs: true, removeOnSuccess: false });
  const done = (job) => new Promise((resolve, reject) => job.on("succeeded", resolve).on("failed", reject));
  let tries = 0;
  queue.process(2, async ({ data }) => {
    if (data.fails) throw new Error("broken on purpose");
    if (data.third && ++tries < 3) throw new Error("not yet");
    return data.n * 2;
  });
  const saved = await Promise.all([1, 2, 3].map((n) => queue.createJob({ n }).save()));
  assert.deepEqual(await Promise.all(saved.map(done)), [2, 4, 6]);
  await assert.rejects(done(await queue.createJob({ fails: true }).save()), /broken on purpose/);
  assert.equal(await done(await queue.createJob({ n: 4, third: true }).retries(3).save()), 8);
  const begin = Date.now();
  assert.equal(await done(await queue.createJob({ n: 5 }).delayUntil(begin + 400).save()), 10);
  assert.ok(Date.now() - begin >= 350, "it ran too early");
  const health = await queue.checkHealth();
  assert.deepEqual([health.succeeded, health.failed, health.waiting, health.delayed], [5, 1, 0, 0]);
  await queue.destroy();
  await queue.close();
}

run(async () => {
  for (const use of [sessions, limits, locks, jobs]) await use();
});
