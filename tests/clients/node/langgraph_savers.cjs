// LangGraph's checkpoint saver for node, on JSON documents. Arguments: port.
const { emptyCheckpoint } = require("@langchain/langgraph-checkpoint");
const { RedisSaver } = require("@langchain/langgraph-checkpoint-redis");
const { assert, port, run } = require("./common.cjs");

run(async () => {
  const saver = await RedisSaver.fromUrl(`redis://127.0.0.1:${port}`);
  const config = (thread) => ({ configurable: { thread_id: thread, checkpoint_ns: "" } });
  let parent = config("one");
  const ids = [];
  for (const count of [0, 1, 2]) {
    const checkpoint = { ...emptyCheckpoint(), id: `0000000${count}-0000-6000-8000-000000000000`, channel_values: { count } };
    checkpoint.channel_versions = { count: count + 1 };
    ids.push(checkpoint.id);
    parent = await saver.put(parent, checkpoint, { source: "loop", step: count, parents: {} }, { count: count + 1 });
  }
  await saver.putWrites(parent, [["count", 7]], "task");
  const latest = await saver.getTuple(config("one"));
  assert.equal(latest.checkpoint.id, ids[2]);
  assert.equal(latest.metadata.step, 2);
  assert.deepEqual(latest.pendingWrites, [["task", "count", 7]]);
  const listed = [];
  for await (const found of saver.list(config("one"))) listed.push(found.checkpoint.id);
  assert.deepEqual(listed, ids.toReversed());
  assert.equal(await saver.getTuple(config("two")), undefined);
  await saver.deleteThread("one");
  assert.equal(await saver.getTuple(config("one")), undefined);
  await saver.end();
});
