// valkey-glide for node and its search module, on hashes. Arguments: port.
const { GlideClient, GlideFt } = require("@valkey/valkey-glide");
const { assert, blob, near, port, run } = require("./common.cjs");

run(async () => {
  const client = await GlideClient.createClient({ addresses: [{ host: "127.0.0.1", port }] });
  assert.equal(await client.set("greeting", "hello"), "OK");
  assert.equal(await client.get("greeting"), "hello");
  assert.equal(await client.del(["greeting"]), 1);
  const fields = [
    { type: "TAG", name: "colour" },
    { type: "NUMERIC", name: "price" },
    {
      type: "VECTOR",
      name: "embedding",
      attributes: { algorithm: "HNSW", type: "FLOAT32", dimensions: 32, distanceMetric: "COSINE" },
    },
  ];
  assert.equal(await GlideFt.create(client, "idx", fields, { dataType: "HASH", prefixes: ["item:"] }), "OK");
  for (const [number, colour] of ["red", "red", "blue"].entries()) {
    await client.hset(`item:${number}`, { colour, price: `${10 * number}`, embedding: blob(`${colour} thing ${number}`) });
  }
  const search = async (query, options) => {
    // Without rows the reply has one element.
    const [total, rows = []] = await GlideFt.search(client, "idx", query, options);
    return [total, rows.map(({ key, value }) => [key, Object.fromEntries(value.map((field) => [field.key, field.value]))])];
  };
  const returned = { returnFields: [{ fieldIdentifier: "price" }] };
  assert.deepEqual(await search("@colour:{red} @price:[5 +inf]", returned), [1, [["item:1", { price: "10" }]]]);
  const params = [{ key: "q", value: blob("blue thing 2") }];
  const [total, rows] = await search("*=>[KNN 1 @embedding $q AS d]", { params, returnFields: [{ fieldIdentifier: "d" }] });
  assert.deepEqual([total, rows[0][0]], [1, "item:2"]);
  near(rows[0][1].d, 0);
  await client.del(["item:2"]);
  assert.deepEqual(await search("@colour:{blue}"), [0, []]);
  assert.deepEqual(await GlideFt.list(client), ["idx"]);
  assert.equal(await GlideFt.dropindex(client, "idx"), "OK");
  client.close();
});
