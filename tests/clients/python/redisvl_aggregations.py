"""RedisVL's queries on FT.AGGREGATE: text and vectors with weights, several vectors. Arguments: port."""

from redisvl.index import SearchIndex
from redisvl.query import AggregateHybridQuery, MultiVectorQuery, Vector
from redisvl.query.filter import Num, Tag

from common import blob, done, embed, equal, near, url

VECTOR = {"algorithm": "flat", "dims": 32, "distance_metric": "cosine", "datatype": "float32"}
SCHEMA = {
    "index": {"name": "papers", "prefix": "paper"},
    "fields": [
        {"name": "title", "type": "text"},
        {"name": "kind", "type": "tag"},
        {"name": "year", "type": "numeric"},
        {"name": "embedding", "type": "vector", "attrs": VECTOR},
        {"name": "abstract_embedding", "type": "vector", "attrs": VECTOR},
    ],
}
PAPERS = [
    ("graphs of near neighbours", "article", 2016, "search in high dimensions"),
    ("inverted lists of words", "article", 2001, "search in texts"),
    ("quantised vectors", "thesis", 2011, "memory of near neighbours"),
    ("growing trees", "book", 1998, "gardens"),
]
index = SearchIndex.from_dict(SCHEMA, redis_url=url())
index.create(overwrite=True, drop=True)
index.load(
    [
        {"title": title, "kind": kind, "year": year, "embedding": blob(title), "abstract_embedding": blob(abstract)}
        for title, kind, year, abstract in PAPERS
    ]
)


def hybrid(condition=None):
    query = AggregateHybridQuery(
        text="near neighbours",
        text_field_name="title",
        vector=embed("near neighbours").tolist(),
        vector_field_name="embedding",
        alpha=0.7,
        num_results=2,
        return_fields=["title", "kind"],
        filter_expression=condition,
        stopwords=None,
    )
    return index.query(query)


rows = hybrid()
equal(len(rows), 2)
equal(rows[0]["title"], PAPERS[0][0])
first = rows[0]
near(first["hybrid_score"], 0.7 * float(first["vector_similarity"]) + 0.3 * float(first["text_score"]), 1e-3)
assert float(rows[0]["hybrid_score"]) >= float(rows[1]["hybrid_score"])
equal([row["title"] for row in hybrid(Tag("kind") == "thesis")], ["quantised vectors"])
equal({row["kind"] for row in hybrid((Num("year") > 2000) & (Tag("kind") == "article"))}, {"article"})

vectors = [
    Vector(vector=embed("near neighbours").tolist(), field_name="embedding", weight=0.2),
    Vector(vector=embed("memory of near neighbours").tolist(), field_name="abstract_embedding", weight=0.8),
]
rows = index.query(MultiVectorQuery(vectors=vectors, return_fields=["title"], num_results=3))
equal([row["title"] for row in rows][0], "quantised vectors")
for row in rows:
    similarities = 0.2 * float(row["score_0"]) + 0.8 * float(row["score_1"])
    near(row["combined_score"], similarities, 1e-3)
index.delete(drop=True)
done()
