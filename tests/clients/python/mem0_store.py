"""mem0's vector store for Valkey. Arguments: port."""

import os

os.environ["MEM0_TELEMETRY"] = "False"

import valkey
from mem0.vector_stores.valkey import ValkeyDB

from common import done, embed, equal, url

MEMORIES = [("likes green tea", "ann"), ("has a bicycle", "ann"), ("likes black tea", "bob")]


def payload(text, user):
    when = "2026-01-02T03:04:05+00:00"
    return {"hash": "h", "data": text, "user_id": user, "created_at": when, "updated_at": when, "category": "habits"}


def memories(store):
    ids = [f"m{number}" for number in range(len(MEMORIES))]
    vectors = [embed(text).tolist() for text, _ in MEMORIES]
    store.insert(vectors, [payload(*memory) for memory in MEMORIES], ids)
    found = store.search("tea", embed("likes tea").tolist(), top_k=3, filters={"user_id": "ann"})
    equal([memory.id for memory in found], ["m0", "m1"])
    equal(found[0].payload["data"], "likes green tea")
    equal(found[0].payload["category"], "habits")
    equal(store.get("m2").payload["user_id"], "bob")
    store.update("m1", embed("has a boat").tolist(), payload("has a boat", "ann"))
    equal(store.get("m1").payload["data"], "has a boat")
    equal(store.search("boat", embed("has a boat").tolist(), top_k=1)[0].id, "m1")
    listed = store.list(filters={"user_id": "ann"}, top_k=10)[0]
    equal(sorted(memory.id for memory in listed), ["m0", "m1"])
    store.delete("m0")
    equal([memory.id for memory in store.search("tea", embed("likes tea").tolist(), top_k=3, filters={"user_id": "ann"})], ["m1"])
    store.reset()
    store.delete_col()


# The store looks for "not found" when it asks whether its index exists.
valkey.from_url(url()).config_set("search-error-style", "codes")
memories(ValkeyDB(url(), "habits", 32))
done()
