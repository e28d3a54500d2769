"""RedisVL's query on FT.HYBRID: ranks of a text query and of a vector query combined. Arguments: port."""

from redisvl.index import SearchIndex
from redisvl.query import HybridQuery
from redisvl.query.filter import Tag

from common import blob, done, embed, equal, near, url

SCHEMA = {
    "index": {"name": "notes", "prefix": "note"},
    "fields": [
        {"name": "text", "type": "text"},
        {"name": "kind", "type": "tag"},
        {
            "name": "embedding",
            "type": "vector",
            "attrs": {"algorithm": "hnsw", "dims": 32, "distance_metric": "cosine", "datatype": "float32"},
        },
    ],
}
NOTES = [("a red apple", "fruit"), ("apple pie with cinnamon", "cake"), ("red wine", "drink"), ("a green bicycle", "thing")]
index = SearchIndex.from_dict(SCHEMA, redis_url=url())
index.create(overwrite=True, drop=True)
index.load([{"text": text, "kind": kind, "embedding": blob(text)} for text, kind in NOTES])


def rows(**more):
    query = HybridQuery(
        text="apple",
        text_field_name="text",
        vector=embed("red apple").tolist(),
        vector_field_name="embedding",
        return_fields=["text"],
        stopwords=None,
        **more,
    )
    return index.query(query)


found = rows(combination_method="RRF", num_results=3, yield_combined_score_as="combined")
equal(found[0]["text"], "a red apple")
near(found[0]["combined"], 1 / 61 + 1 / 61, 1e-3)
equal(len(found), 3)
found = rows(
    combination_method="LINEAR",
    linear_alpha=0.3,
    yield_text_score_as="of_text",
    yield_vsim_score_as="of_vector",
    yield_combined_score_as="combined",
)
equal(found[0]["text"], "a red apple")
first = found[0]
near(first["combined"], 0.3 * float(first["of_text"]) + 0.7 * float(first["of_vector"]), 1e-3)
found = rows(vector_search_method="KNN", filter_expression=Tag("kind") == "cake")
equal([row["text"] for row in found], ["apple pie with cinnamon"])
# The words are optional, so the text query finds every note; the vector query only those within the radius.
found = rows(
    vector_search_method="RANGE", range_radius=0.5, combination_method="RRF", yield_vsim_score_as="of_vector"
)
by_vector = [row["text"] for row in found if "of_vector" in row]
assert "a red apple" in by_vector and "a green bicycle" not in by_vector, found
index.delete(drop=True)
done()
