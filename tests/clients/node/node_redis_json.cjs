// node-redis: JSON documents, an index on them, and aggregations. Arguments: port, protocol.
const { FT_AGGREGATE_GROUP_BY_REDUCERS, FT_AGGREGATE_STEPS, SCHEMA_FIELD_TYPE, createClient } = require("redis");
const { assert, near, port, run } = require("./common.cjs");

run(async () => {
  const client = createClient({ socket: { port }, RESP: Number(process.argv[3]) });
  await client.connect();
  assert.equal(await client.json.set("user:1", "$", { name: "Ann", age: 30, tags: ["a"], pet: { kind: "cat" } }), "OK");
  assert.deepEqual(await client.json.get("user:1", { path: "$.pet.kind" }), ["cat"]);
  assert.deepEqual(await client.json.numIncrBy("user:1", "$.age", 5), [35]);
  assert.deepEqual(await client.json.arrAppend("user:1", "$.tags", "b", "c"), [3]);
  assert.deepEqual(await client.json.arrPop("user:1", { path: "$.tags" }), ["c"]);
  assert.equal(await client.json.del("user:1", { path: "$.pet" }), 1);
  assert.deepEqual(await client.json.get("user:1"), { name: "Ann", age: 35, tags: ["a", "b"] });
  await client.json.mSet([
    { key: "user:2", path: "$", value: { name: "Bob", age: 40, tags: ["b"] } },
    { key: "user:3", path: "$", value: { name: "Cho", age: 50, tags: ["a"] } },
  ]);
  assert.deepEqual(await client.json.mGet(["user:2", "user:9"], "$.age"), [[40], null]);

  const schema = {
    "$.name": { type: SCHEMA_FIELD_TYPE.TEXT, AS: "name", SORTABLE: true },
    "$.age": { type: SCHEMA_FIELD_TYPE.NUMERIC, AS: "age" },
    "$.tags[*]": { type: SCHEMA_FIELD_TYPE.TAG, AS: "tag" },
  };
  await client.ft.create("users", schema, { ON: "JSON", PREFIX: "user:" });
  while (Number((await client.ft.info("users")).percent_indexed) < 1);
  const found = await client.ft.search("users", "@tag:{a} @age:[45 60]");
  assert.deepEqual(found.documents, [{ id: "user:3", value: { name: "Cho", age: 50, tags: ["a"] } }]);
  const groups = await client.ft.aggregate("users", "*", {
    LOAD: ["@age", "@tag"],
    STEPS: [
      {
        type: FT_AGGREGATE_STEPS.GROUPBY,
        properties: "@tag",
        REDUCE: [
          { type: FT_AGGREGATE_GROUP_BY_REDUCERS.COUNT, AS: "users" },
          { type: FT_AGGREGATE_GROUP_BY_REDUCERS.AVG, property: "@age", AS: "mean" },
        ],
      },
      { type: FT_AGGREGATE_STEPS.SORTBY, BY: { BY: "@mean", DIRECTION: "DESC" } },
    ],
  });
  const rows = groups.results.map(({ users, mean }) => [Number(users), Number(mean)]);
  assert.equal(rows.reduce((sum, [users]) => sum + users, 0), 3);
  near(rows[0][1] >= rows[rows.length - 1][1] ? 1 : 0, 1);
  await client.json.set("user:3", "$.age", 20);
  assert.equal((await client.ft.search("users", "@age:[45 60]")).total, 0);
  await client.ft.dropIndex("users", { DD: true });
  assert.equal(await client.dbSize(), 0);
  await client.close();
});
