"""Retrieval for a language model, with a semantic cache in front of it. Arguments: port.

The model is a function that quotes its context, so that the example runs without one: what matters is what it is
given, and when it is not asked at all.
"""

import sys

from redisvl.extensions.cache.llm import SemanticCache
from redisvl.index import SearchIndex
from redisvl.query import VectorQuery
from redisvl.utils.vectorize import CustomVectorizer

from minilm import DIMENSIONS, MiniLM

MANUAL = [
    "To reset the thermostat, hold the round button for ten seconds until the light blinks.",
    "The filter of the air pump must be washed every two months in cold water.",
    "If the display shows E4, the outdoor sensor has lost its connection.",
    "The warranty covers the compressor for five years and all other parts for two.",
    "At night the heating lowers the temperature by four degrees between eleven and six.",
]

url, embed = f"redis://127.0.0.1:{sys.argv[1]}", MiniLM()
vectorizer = CustomVectorizer(embed=lambda text, **_: embed(text).tolist())
vector = {"algorithm": "hnsw", "dims": DIMENSIONS, "distance_metric": "cosine", "datatype": "float32"}
fields = [{"name": "text", "type": "text"}, {"name": "embedding", "type": "vector", "attrs": vector}]
manual = SearchIndex.from_dict({"index": {"name": "manual", "prefix": "manual"}, "fields": fields}, redis_url=url)
manual.create(overwrite=True, drop=True)
manual.load([{"text": text, "embedding": embed.blob(text)} for text in MANUAL])
cache = SemanticCache(name="answers", vectorizer=vectorizer, redis_url=url, distance_threshold=0.25)
asked = 0


def model(question, context):
    global asked
    asked += 1
    return f"The manual says: {context[0]}"


def answer(question):
    known = cache.check(question)
    if known:
        return known[0]["response"], "cache"
    query = VectorQuery(embed(question).tolist(), "embedding", return_fields=["text"], num_results=2)
    response = model(question, [row["text"] for row in manual.query(query)])
    cache.store(question, response)
    return response, "model"


for question, wanted, source in [
    ("How do I reset the thermostat?", MANUAL[0], "model"),
    ("how can I reset the thermostat", MANUAL[0], "cache"),
    ("What does the error E4 on the display mean?", MANUAL[2], "model"),
    ("How long is the warranty of the compressor?", MANUAL[3], "model"),
    ("What is the warranty period for the compressor?", MANUAL[3], "cache"),
]:
    response, by = answer(question)
    print(f"{question}\n    ({by}) {response}")
    assert wanted in response and by == source, f"{question}: {response} by {by}"
assert asked == 3, asked
cache.delete()
manual.delete(drop=True)
print("all as expected")
