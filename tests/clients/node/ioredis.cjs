// ioredis: strings, pipelines, transactions, streams of keys, and FT.* by `call`. Arguments: port.
const Redis = require("ioredis");
const { assert, blob, near, port, run } = require("./common.cjs");

run(async () => {
  const client = new Redis({ port });
  assert.equal(await client.set("greeting", "hello", "EX", 100), "OK");
  assert.ok((await client.ttl("greeting")) > 0);
  assert.deepEqual(await client.pipeline().incr("n").get("greeting").exec(), [[null, 1], [null, "hello"]]);
  assert.deepEqual(await client.multi().incr("n").incr("n").exec(), [[null, 2], [null, 3]]);
  const keys = [];
  for await (const page of client.scanStream({ match: "g*" })) keys.push(...page);
  assert.deepEqual(keys, ["greeting"]);
  await client.del("greeting", "n");

  // By default ioredis speaks RESP3 and flattens maps. Searches are written for the arrays of RESP2.
  const search = new Redis({ port, protocol: 2 });
  const schema = ["colour", "TAG", "embedding", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", 32, "DISTANCE_METRIC", "L2"];
  assert.equal(await search.call("FT.CREATE", "idx", "ON", "HASH", "PREFIX", 1, "item:", "SCHEMA", ...schema), "OK");
  for (const [number, colour] of ["red", "red", "blue"].entries()) {
    await client.hset(`item:${number}`, { colour, embedding: blob(`${colour} thing ${number}`) });
  }
  const query = ["(@colour:{red})=>[KNN 2 @embedding $q AS d]", "PARAMS", 2, "q", blob("red thing 1"), "RETURN", 1, "d"];
  const [total, first, fields] = await search.call("FT.SEARCH", "idx", ...query, "DIALECT", 2);
  assert.deepEqual([total, first, fields[0]], [2, "item:1", "d"]);
  near(fields[1], 0);
  const pages = await search.pipeline().call("FT.SEARCH", "idx", "@colour:{blue}", "NOCONTENT").call("FT._LIST").exec();
  assert.deepEqual(pages, [[null, [1, "item:2"]], [null, ["idx"]]]);
  await client.del("item:2");
  assert.deepEqual(await search.call("FT.SEARCH", "idx", "@colour:{blue}"), [0]);
  const map = await client.call("FT.SEARCH", "idx", "@colour:{red}", "NOCONTENT");
  assert.equal(map[map.indexOf("total_results") + 1], 2);
  await assert.rejects(search.call("FT.SEARCH", "nosuch", "*"), /no such index/i);
  assert.equal(await search.call("FT.DROPINDEX", "idx", "DD"), "OK");
  assert.equal(await client.dbsize(), 0);
  await search.quit();
  await client.quit();
});
