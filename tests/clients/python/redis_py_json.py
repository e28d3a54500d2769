"""redis-py's JSON commands, an index over JSON documents, and aggregations. Arguments: port, protocol."""

import sys

import redis
from redis.commands.json.path import Path
from redis.commands.search import reducers
from redis.commands.search.aggregation import AggregateRequest, Asc, Desc
from redis.commands.search.field import NumericField, TagField, TextField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import Query

from common import blob, done, embed, equal, near, port, refused

# RESP3 is the default, with replies of one form for both protocols; a protocol that is named has the old forms.
db = redis.Redis(port=port(), decode_responses=True, **({"protocol": 2} if sys.argv[2] == "2" else {}))
documents = db.json()
equal(documents.set("film:1", "$", {"title": "A Night at Sea", "year": 1956, "tags": ["sea", "night"]}), True)
equal(documents.get("film:1", "$.title"), ["A Night at Sea"])
equal(documents.get("film:1", Path("year")), 1956)
equal(documents.set("film:1", "$.director", {"name": "K. Holm"}), True)
equal(documents.set("film:1", "$.year", 1, nx=True), None)
equal(documents.numincrby("film:1", "$.year", 1), [1957])
equal(documents.arrappend("film:1", "$.tags", "boat", "storm"), [4])
equal(documents.arrlen("film:1", "$.tags"), [4])
equal(documents.arrindex("film:1", "$.tags", "boat"), [2])
equal(documents.arrpop("film:1", "$.tags"), ['"storm"'])
equal(documents.strappend("film:1", " again", "$.title"), [20])
equal(sorted(documents.objkeys("film:1", "$")[0]), ["director", "tags", "title", "year"])
kind = documents.type("film:1", "$.tags")
assert kind in (["array"], [["array"]]), kind
equal(documents.get("film:1", "$..name"), ["K. Holm"])
equal(documents.toggle("film:1", "$.year"), [None])
equal(documents.delete("film:1", "$.director"), 1)
equal(documents.merge("film:1", "$", {"tags": None, "rating": 7.5}), True)
equal(documents.get("film:1"), {"title": "A Night at Sea again", "year": 1957, "rating": 7.5})
equal(documents.mset([("film:2", "$", {"year": 1960}), ("film:3", "$", {"year": 1961})]), True)
equal(documents.mget(["film:2", "film:3", "film:9"], "$.year"), [[1960], [1961], None])
refused(redis.ResponseError, lambda: documents.set("film:9", "$.a.b", 1), "new objects must be created at the root")
equal(db.type("film:1"), "ReJSON-RL")
equal(db.delete("film:1", "film:2", "film:3"), 3)

index = db.ft("films")
schema = [
    TextField("$.title", as_name="title"),
    TagField("$.tags[*]", as_name="tags"),
    NumericField("$.year", as_name="year", sortable=True),
    NumericField("$.rating", as_name="rating"),
    TagField("$.country", as_name="country"),
    VectorField("$.embedding", "FLAT", {"TYPE": "FLOAT32", "DIM": 32, "DISTANCE_METRIC": "L2"}, as_name="embedding"),
]
index.create_index(schema, definition=IndexDefinition(prefix=["film:"], index_type=IndexType.JSON))
FILMS = [
    ("harbour of glass", ["drama", "sea"], 1951, 6.5, "no"),
    ("the glass mountain", ["drama"], 1962, 7.5, "se"),
    ("two boats", ["comedy", "sea"], 1962, 8.0, "no"),
    ("a winter in the harbour", ["documentary"], 1971, 5.0, "dk"),
]
for number, (title, tags, year, rating, country) in enumerate(FILMS):
    film = {"title": title, "tags": tags, "year": year, "rating": rating, "country": country}
    documents.set(f"film:{number}", "$", film | {"embedding": embed(title).tolist()})


def ids(query, parameters=None):
    return [document.id for document in index.search(query, query_params=parameters).docs]


equal(sorted(ids(Query("@tags:{sea}"))), ["film:0", "film:2"])
equal(sorted(ids(Query("glass @year:[1960 1970]"))), ["film:1"])
equal(ids(Query("*").sort_by("year", asc=False).paging(0, 1)), ["film:3"])
knn = Query("@tags:{drama}=>[KNN 1 @embedding $query AS distance]").return_fields("title", "distance").dialect(2)
result = index.search(knn, query_params={"query": blob("harbour")})
equal([(document.id, document.title) for document in result.docs], [("film:0", FILMS[0][0])])
result = index.search(Query("@title:boats").return_field("$.tags[0]", as_field="first"))
equal(result.docs[0].first, "comedy")
documents.set("film:2", "$.tags[1]", "lake")
equal(ids(Query("@tags:{lake}")), ["film:2"])
documents.numincrby("film:3", "$.year", 100)
equal(ids(Query("@year:[2000 +inf]")), ["film:3"])


def rows(request):
    result = index.aggregate(request)
    return [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2])) for row in result.rows]


request = AggregateRequest("*").group_by(
    "@country", reducers.count().alias("films"), reducers.avg("@rating").alias("mean"), reducers.max("@year").alias("last")
)
found = rows(request.sort_by(Asc("@country")))
equal([(row["country"], int(row["films"])) for row in found], [("dk", 1), ("no", 2), ("se", 1)])
near(found[1]["mean"], 7.25)
equal([int(row["last"]) for row in found], [2071, 1962, 1962])
request = AggregateRequest("@year:[1900 2000]").load("@title", "@rating").apply(double="@rating * 2").filter("@double > 13")
found = rows(request.sort_by(Desc("@double")).limit(0, 2))
equal([(row["title"], float(row["double"])) for row in found], [("two boats", 16.0), ("the glass mountain", 15.0)])
request = AggregateRequest("*").load("@title").apply(upper="upper(@title)").cursor(count=3)
result = index.aggregate(request)
count = len(result.rows)
while result.cursor.cid:
    result = index.aggregate(result.cursor)
    count += len(result.rows)
equal(count, len(FILMS))

documents.delete("film:0")
equal(sorted(ids(Query("glass"))), ["film:1"])
db.ft("films").dropindex(delete_documents=True)
equal(db.dbsize(), 0)
done()
