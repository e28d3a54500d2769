"""RedisVL's caches and message histories on hashes. Arguments: port."""

import redis
from redisvl.extensions.cache.embeddings import EmbeddingsCache
from redisvl.extensions.cache.llm import SemanticCache
from redisvl.extensions.message_history import MessageHistory, SemanticMessageHistory
from redisvl.query.filter import Tag
from redisvl.utils.vectorize import CustomVectorizer

from common import done, embed, equal, near, port, url

vectorizer = CustomVectorizer(embed=lambda text, **_: embed(text).tolist())
db = redis.Redis(port=port())

cache = SemanticCache(
    name="llm", vectorizer=vectorizer, redis_url=url(), distance_threshold=0.2, filterable_fields=[{"name": "user", "type": "tag"}]
)
key = cache.store("what is the capital of France", "Paris", metadata={"by": "model"}, filters={"user": "ann"})
hits = cache.check("what is the capital of France")
equal([hit["response"] for hit in hits], ["Paris"])
equal(hits[0]["metadata"], {"by": "model"})
near(hits[0]["vector_distance"], 0)
equal(cache.check("the capital of France what is", num_results=2)[0]["response"], "Paris")
equal(cache.check("how tall is a giraffe"), [])
equal(cache.check("what is the capital of France", filter_expression=Tag("user") == "bob"), [])
equal(len(cache.check("what is the capital of France", filter_expression=Tag("user") == "ann")), 1)
cache.update(key, response="Paris, since 987")
equal(cache.check("what is the capital of France", return_fields=["response"])[0]["response"], "Paris, since 987")
cache.set_ttl(100)
second = cache.store("how tall is a giraffe", "five metres")
assert 0 < db.ttl(second) <= 100
cache.drop(keys=[second])
equal(cache.check("how tall is a giraffe"), [])
cache.clear()
equal(cache.check("what is the capital of France"), [])
cache.delete()

cache = EmbeddingsCache(name="embeddings", redis_url=url(), ttl=100)
cache.set(content="hello", model_name="words", embedding=[0.5, 1.5], metadata={"n": 1})
equal(cache.get(content="hello", model_name="words")["embedding"], [0.5, 1.5])
equal(cache.get(content="hello", model_name="other"), None)
equal(cache.mexists(contents=["hello", "bye"], model_name="words"), [True, False])
cache.drop(content="hello", model_name="words")
equal(cache.exists(content="hello", model_name="words"), False)
cache.clear()

history = MessageHistory(name="talk", redis_url=url(), session_tag="monday")
history.store("hello", "good morning")
history.add_messages([{"role": "user", "content": "and now"}, {"role": "llm", "content": "coffee"}])
equal([message["content"] for message in history.get_recent(top_k=3)], ["good morning", "and now", "coffee"])
equal([message["role"] for message in history.messages], ["user", "llm", "user", "llm"])
equal(history.get_recent(session_tag="tuesday"), [])
equal([message["content"] for message in history.get_recent(role="user")], ["hello", "and now"])
history.drop()
equal(len(history.get_recent(top_k=10)), 3)
history.clear()
equal(history.get_recent(), [])
history.delete()

history = SemanticMessageHistory(
    name="meaning", redis_url=url(), session_tag="monday", vectorizer=vectorizer, distance_threshold=0.4
)
history.store("my bicycle is green", "a fine colour for a bicycle")
history.store("rain will fall tomorrow", "take a jacket")
relevant = history.get_relevant("is my bicycle green")
equal([message["content"] for message in relevant], ["my bicycle is green"])
equal(history.get_relevant("unrelated words entirely", fall_back=False), [])
equal(len(history.get_recent(top_k=10)), 4)
history.delete()
equal(db.dbsize(), 0)
done()
