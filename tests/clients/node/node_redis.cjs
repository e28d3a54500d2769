// node-redis: strings, pipelines, transactions, and search on hashes. Arguments: port, protocol.
const { SCHEMA_FIELD_TYPE, SCHEMA_VECTOR_FIELD_ALGORITHM, createClient } = require("redis");
const { assert, blob, near, port, run } = require("./common.cjs");

run(async () => {
  const client = createClient({ socket: { port }, RESP: Number(process.argv[3]) });
  await client.connect();
  assert.equal(await client.set("greeting", "hello"), "OK");
  assert.equal(await client.get("greeting"), "hello");
  assert.deepEqual(await client.multi().incr("n").incr("n").get("n").exec(), [1, 2, "2"]);
  assert.deepEqual(await Promise.all([client.incr("n"), client.incr("n")]), [3, 4]);
  await client.del(["greeting", "n"]);

  await assert.rejects(client.ft.info("idx"), /unknown index name/i);
  const schema = {
    title: { type: SCHEMA_FIELD_TYPE.TEXT, SORTABLE: true },
    colour: { type: SCHEMA_FIELD_TYPE.TAG, SEPARATOR: ";" },
    price: { type: SCHEMA_FIELD_TYPE.NUMERIC, SORTABLE: true },
    embedding: {
      type: SCHEMA_FIELD_TYPE.VECTOR,
      ALGORITHM: SCHEMA_VECTOR_FIELD_ALGORITHM.HNSW,
      TYPE: "FLOAT32",
      DIM: 32,
      DISTANCE_METRIC: "COSINE",
    },
  };
  assert.equal(await client.ft.create("idx", schema, { ON: "HASH", PREFIX: "item:" }), "OK");
  const items = [
    ["red bicycle", "red;small", 120],
    ["blue bicycle", "blue", 350],
    ["garden chair", "green", 40],
  ];
  await Promise.all(
    items.map(([title, colour, price], number) =>
      client.hSet(`item:${number}`, { title, colour, price, embedding: blob(title) }),
    ),
  );
  assert.deepEqual(await client.ft._list(), ["idx"]);
  const ids = async (query, options) => (await client.ft.search("idx", query, options)).documents.map(({ id }) => id);
  assert.deepEqual((await ids("bicycle")).sort(), ["item:0", "item:1"]);
  assert.deepEqual(await ids("@colour:{small} @price:[100 200]"), ["item:0"]);
  assert.deepEqual(await ids("*", { SORTBY: { BY: "price", DIRECTION: "DESC" }, LIMIT: { from: 0, size: 2 } }), ["item:1", "item:0"]);
  const knn = { PARAMS: { query: blob("red bicycle") }, SORTBY: "distance", RETURN: ["title", "distance"], DIALECT: 2 };
  const found = await client.ft.search("idx", "*=>[KNN 2 @embedding $query AS distance]", knn);
  assert.equal(found.total, 2);
  assert.deepEqual(found.documents.map(({ value }) => value.title), ["red bicycle", "blue bicycle"]);
  near(found.documents[0].value.distance, 0);
  assert.deepEqual(await ids("(@colour:{green})=>[KNN 2 @embedding $query AS distance]", knn), ["item:2"]);
  await client.hSet("item:2", { colour: "black" });
  assert.deepEqual(await ids("@colour:{black}"), ["item:2"]);
  await client.del("item:0");
  assert.deepEqual(await ids("bicycle"), ["item:1"]);
  assert.equal(Number((await client.ft.info("idx")).num_docs), 2);
  assert.equal(await client.ft.dropIndex("idx", { DD: true }), "OK");
  assert.equal(await client.dbSize(), 0);
  await client.close();
});
