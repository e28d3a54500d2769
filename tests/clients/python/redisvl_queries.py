"""RedisVL's index and the queries on FT.SEARCH, on hashes. Arguments: port."""

import redis
from redisvl.index import SearchIndex
from redisvl.query import CountQuery, FilterQuery, RangeQuery, TextQuery, VectorQuery
from redisvl.query.filter import Num, Tag, Text
from redisvl.redis.utils import buffer_to_array

from common import blob, done, embed, equal, near, port, url

SCHEMA = {
    "index": {"name": "users", "prefix": "user", "storage_type": "hash"},
    "fields": [
        {"name": "name", "type": "tag"},
        {"name": "job", "type": "text"},
        {"name": "age", "type": "numeric", "attrs": {"sortable": True}},
        {
            "name": "embedding",
            "type": "vector",
            "attrs": {"algorithm": "hnsw", "dims": 32, "distance_metric": "cosine", "datatype": "float32"},
        },
    ],
}
PEOPLE = [("ann", "software engineer", 30), ("bob", "train engineer", 45), ("cho", "doctor of medicine", 61), ("dov", "driver of train engineer", 22)]

index = SearchIndex.from_dict(SCHEMA, redis_url=url())
assert not index.exists()
index.create()
index.create(overwrite=True, drop=True)
assert index.exists() and "users" in index.listall()
people = [{"name": name, "job": job, "age": age, "embedding": blob(job)} for name, job, age in PEOPLE]
keys = index.load(people, id_field="name", ttl=1000)
equal(keys, [f"user:{name}" for name, _, _ in PEOPLE])
equal(index.fetch("ann")["job"], "software engineer")
assert 0 < index.client.ttl("user:ann") <= 1000
equal(SearchIndex.from_existing("users", redis_url=url()).schema.fields["embedding"].attrs.dims, 32)
equal(int(index.info()["num_docs"]), 4)


def names(query):
    return [row["name"] for row in index.query(query)]


vector = embed("train engineer").tolist()
query = VectorQuery(vector, "embedding", return_fields=["name", "age"], num_results=2)
rows = index.query(query)
equal([row["name"] for row in rows], ["bob", "dov"])
near(rows[0]["vector_distance"], 0)
query.set_filter(Num("age") > 40)
equal(names(query), ["bob", "cho"])
query.set_filter((Tag("name") == ["ann", "cho"]) & (Num("age") < 50))
equal(names(query), ["ann"])
query = VectorQuery(vector, "embedding", return_fields=["name"], num_results=3, ef_runtime=50, normalize_vector_distance=True)
rows = index.query(query)
near(rows[0]["vector_distance"], 1)
query = VectorQuery(vector, "embedding", return_fields=["name"], filter_expression=Tag("name") != "bob", hybrid_policy="BATCHES", batch_size=2)
equal(names(query)[0], "dov")
query = VectorQuery(vector, "embedding", num_results=1).return_fields("name", "embedding", skip_decode=["embedding"])
row = index.query(query)[0]
near(buffer_to_array(row["embedding"], "float32")[0], embed("train engineer")[0])

query = RangeQuery(vector, "embedding", return_fields=["name"], distance_threshold=0.4)
equal(names(query), ["bob", "dov"])
query.set_distance_threshold(0.1)
equal(names(query), ["bob"])
query = RangeQuery(vector, "embedding", return_fields=["name"], distance_threshold=1.5, filter_expression=Num("age") >= 45)
equal(names(query), ["bob", "cho"])

query = FilterQuery(Text("job") == "software engineer", return_fields=["name"])
equal(names(query), ["ann"])
equal(names(FilterQuery(Text("job") % "train*", return_fields=["name"], sort_by="age")), ["dov", "bob"])
equal(names(FilterQuery(Text("job") % "doc*|driver", return_fields=["name"]).sort_by("age", asc=False)), ["cho", "dov"])
equal(names(FilterQuery(Num("age").between(22, 30), return_fields=["name"], sort_by="age")), ["dov", "ann"])
equal(index.query(CountQuery(Num("age") > 25)), 3)
equal(index.query(CountQuery()), 4)
pages = list(index.paginate(FilterQuery(return_fields=["name"], num_results=10, sort_by="age"), page_size=3))
equal([[row["name"] for row in page] for page in pages], [["dov", "ann", "bob"], ["cho"]])
query = TextQuery("an engineer of trains", "job", return_fields=["name", "job"], stopwords=None, text_scorer="BM25STD")
assert {"ann", "bob"} <= set(names(query))
equal(len(index.batch_query([VectorQuery(vector, "embedding", num_results=1), VectorQuery(vector, "embedding", num_results=2)])), 2)

index.load([{"name": "ann", "job": "train engineer", "age": 31, "embedding": blob("train engineer")}], id_field="name")
equal(sorted(names(RangeQuery(vector, "embedding", return_fields=["name"], distance_threshold=0.1))), ["ann", "bob"])
equal(index.drop_keys("user:ann"), 1)
equal(index.drop_documents(["bob"]), 1)
equal(index.query(CountQuery()), 2)
equal(index.expire_keys("user:cho", 100), 1)
equal(index.clear(), 2)
index.delete(drop=True)
assert not index.exists()
equal(redis.Redis(port=port()).dbsize(), 0)
done()
