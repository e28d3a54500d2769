"""Semantic search: sentences are found by what they mean, in one index with filters. Arguments: port."""

import sys

import redis
from redis.commands.search.field import NumericField, TagField, TextField, VectorField
from redis.commands.search.index_definition import IndexDefinition
from redis.commands.search.query import Query

from minilm import DIMENSIONS, MiniLM

ARTICLES = [
    ("health", 2021, "A daily walk of half an hour lowers the risk of heart disease."),
    ("health", 2024, "Researchers found a vaccine that protects against malaria."),
    ("money", 2023, "The central bank raised interest rates to slow inflation."),
    ("money", 2019, "Small investors bought shares of technology companies."),
    ("space", 2022, "The telescope took pictures of galaxies near the beginning of time."),
    ("space", 2020, "A probe brought dust of an asteroid back to Earth."),
    ("food", 2018, "Bread dough rises slowly in a cold kitchen."),
    ("food", 2024, "Fermented cabbage keeps through the winter."),
]
QUESTIONS = [
    ("how do I keep my heart healthy", None, "A daily walk"),
    ("why are loans more expensive now", None, "The central bank"),
    ("stars and the early universe", None, "The telescope"),
    ("baking at low temperature", None, "Bread dough"),
    ("something new in medicine", "@topic:{health} @year:[2023 +inf]", "Researchers found"),
    ("preserving vegetables", "@year:[2020 +inf]", "Fermented cabbage"),
]

db, embed = redis.Redis(port=int(sys.argv[1])), MiniLM()
index = db.ft("articles")
vector = {"TYPE": "FLOAT32", "DIM": DIMENSIONS, "DISTANCE_METRIC": "COSINE"}
schema = [TagField("topic"), NumericField("year"), TextField("text"), VectorField("embedding", "HNSW", vector)]
index.create_index(schema, definition=IndexDefinition(prefix=["article:"]))
for number, (topic, year, text) in enumerate(ARTICLES):
    article = {"topic": topic, "year": year, "text": text, "embedding": embed.blob(text)}
    db.hset(f"article:{number}", mapping=article)

for question, condition, wanted in QUESTIONS:
    query = Query(f"({condition or '*'})=>[KNN 2 @embedding $question AS distance]")
    query = query.sort_by("distance").return_fields("text", "distance").dialect(2)
    found = index.search(query, query_params={"question": embed.blob(question)}).docs
    print(question, *(f"    {float(article.distance):.2f}  {article.text}" for article in found), sep="\n")
    assert found[0].text.startswith(wanted), f"{question}: {found[0].text}"
index.dropindex(delete_documents=True)
print("all as expected")
