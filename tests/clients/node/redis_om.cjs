// redis-om: entities as JSON documents and as hashes. Arguments: port.
const { createClient } = require("redis");
const { EntityId, Repository, Schema } = require("redis-om");
const { assert, port, run } = require("./common.cjs");

run(async () => {
  const client = createClient({ socket: { port } });
  await client.connect();
  for (const dataStructure of ["HASH", "JSON"]) {
    const fields = {
      name: { type: "string" },
      bio: { type: "text" },
      age: { type: "number", sortable: true },
      isActive: { type: "boolean" },
      tags: { type: "string[]" },
      joined: { type: "date" },
    };
    const people = new Repository(new Schema(`person-${dataStructure}`, fields, { dataStructure }), client);
    await people.createIndex();
    await people.createIndex();
    const saved = [];
    for (const [name, bio, age, isActive, tags] of [
      ["Ann", "paints boats", 30, true, ["a", "b"]],
      ["Bob", "repairs boats", 45, false, ["b"]],
      ["Cho", "writes letters", 61, true, ["c"]],
    ]) {
      saved.push(await people.save({ name, bio, age, isActive, tags, joined: new Date("2020-01-02") }));
    }
    assert.equal((await people.fetch(saved[0][EntityId])).name, "Ann");
    const names = async (search) => (await search.return.all()).map(({ name }) => name);
    assert.deepEqual(await names(people.search().where("name").equals("Bob")), ["Bob"]);
    assert.deepEqual(await names(people.search().where("age").gt(40).and("isActive").true()), ["Cho"]);
    assert.deepEqual(await names(people.search().where("bio").matches("boats").sortBy("age", "DESC")), ["Bob", "Ann"]);
    assert.deepEqual(await names(people.search().where("tags").contains("b").sortAsc("age")), ["Ann", "Bob"]);
    assert.deepEqual(await names(people.search().where("name").not.equals("Ann").sortAsc("age")), ["Bob", "Cho"]);
    assert.equal(await people.search().return.count(), 3);
    assert.equal((await people.search().sortAsc("age").return.page(1, 1))[0].name, "Bob");
    saved[0].age = 70;
    await people.save(saved[0]);
    assert.deepEqual(await names(people.search().where("age").gte(65)), ["Ann"]);
    await people.remove(saved.map((entity) => entity[EntityId]));
    assert.equal(await people.search().return.count(), 0);
    await people.dropIndex();
  }
  await client.close();
});
