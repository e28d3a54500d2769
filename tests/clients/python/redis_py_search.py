"""redis-py's search module on hashes: create, load, query, filter, update, delete, drop. Arguments: port, protocol."""

import sys

import redis
from redis.commands.search.field import NumericField, TagField, TextField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import NumericFilter, Query

from common import blob, done, equal, near, port, refused

# RESP3 is the default, with replies of one form for both protocols; a protocol that is named has the old forms.
db = redis.Redis(port=port(), **({"protocol": 2} if sys.argv[2] == "2" else {}))
index = db.ft("shop")
refused(redis.ResponseError, index.info, "unknown index name")

schema = [
    TextField("title", weight=2.0, sortable=True),
    TagField("colour", separator=";"),
    NumericField("price", sortable=True),
    VectorField("embedding", "HNSW", {"TYPE": "FLOAT32", "DIM": 32, "DISTANCE_METRIC": "COSINE", "M": 8}),
]
definition = IndexDefinition(prefix=["shop:"], index_type=IndexType.HASH)
equal(index.create_index(schema, definition=definition), b"OK")
refused(redis.ResponseError, lambda: index.create_index(schema, definition=definition), "already exists")

ITEMS = [
    ("red bicycle for children", "red;small", 120),
    ("blue bicycle with basket", "blue", 350.5),
    ("green garden chair", "green", 40),
    ("red garden table of wood", "red", 95),
    ("blue rain jacket", "blue;small", 60),
]
pipeline = db.pipeline(transaction=False)
for number, (title, colour, price) in enumerate(ITEMS):
    item = {"title": title, "colour": colour, "price": price, "embedding": blob(title)}
    pipeline.hset(f"shop:{number}", mapping=item)
equal(pipeline.execute(), [4] * len(ITEMS))

info = index.info()
name = info.get("index_name", info.get(b"index_name"))
assert name in ("shop", b"shop"), name
equal(int(info.get("num_docs", info.get(b"num_docs"))), len(ITEMS))


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def ids(query, parameters=None):
    result = index.search(query, query_params=parameters)
    return [text(document.id) for document in result.docs]


def same(query, wanted, parameters=None):
    equal(sorted(ids(query, parameters)), [f"shop:{number}" for number in wanted])


same(Query("bicycle"), [0, 1])
same(Query("@title:(garden -chair)"), [3])
same(Query("@title:(chair | jacket)"), [2, 4])
same(Query("bicy*"), [0, 1])
same(Query('"garden table"'), [3])
same(Query("@colour:{red}"), [0, 3])
same(Query("@colour:{small} @price:[0 100]"), [4])
same(Query("*").add_filter(NumericFilter("price", 60, 120)), [0, 3, 4])
same(Query("@price:[(60 120]"), [0, 3])
equal(ids(Query("*").sort_by("price", asc=False).paging(1, 2)), ["shop:0", "shop:3"])
equal(index.search(Query("*").paging(0, 0)).total, len(ITEMS))

near_bicycle = {"query": blob("bicycle for children")}
knn = Query("*=>[KNN 2 @embedding $query AS distance]").sort_by("distance").return_fields("title", "distance").dialect(2)
result = index.search(knn, query_params=near_bicycle)
equal([text(document.id) for document in result.docs], ["shop:0", "shop:1"])
equal(result.docs[0].title, ITEMS[0][0])
assert 0 < float(result.docs[0].distance) < float(result.docs[1].distance)
filtered = Query("(@colour:{blue})=>[KNN 3 @embedding $query AS distance]").sort_by("distance").dialect(2)
equal(ids(filtered, near_bicycle), ["shop:1", "shop:4"])
in_range = Query("@embedding:[VECTOR_RANGE $radius $query]=>{$yield_distance_as: distance}")
in_range = in_range.sort_by("distance").return_fields("distance").dialect(2)
result = index.search(in_range, query_params={"radius": 0.01, "query": blob(ITEMS[2][0])})
equal([text(document.id) for document in result.docs], ["shop:2"])
near(result.docs[0].distance, 0)
wrong = {"query": b"\0" * 8}
refused(redis.ResponseError, lambda: index.search(knn, query_params=wrong), "does not match index's expected size (128)")

db.hset("shop:2", mapping={"colour": "black", "price": 45})
same(Query("@colour:{black}"), [2])
same(Query("@colour:{green}"), [])
db.hdel("shop:4", "embedding")
equal(len(ids(Query("*=>[KNN 10 @embedding $query]").dialect(2), near_bicycle)), 4)
db.delete("shop:0")
same(Query("bicycle"), [1])
assert {"black", "blue", "red", "small"} <= {text(value) for value in index.tagvals("colour")}
explained = text(index.explain(Query("@price:[1 2] bicycle")))
assert "INTERSECT" in explained and "NUMERIC" in explained, explained

equal([text(found) for found in db.execute_command("FT._LIST")], ["shop"])
equal(text(index.dropindex(delete_documents=True)), "OK")
equal(db.dbsize(), 0)
done()
