"""LangChain's cache and chat history, which are JSON documents, and its vector store on JSON. Arguments: port."""

import redis
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation
from langchain_redis import RedisCache, RedisChatMessageHistory, RedisConfig, RedisVectorStore
from redisvl.query.filter import Num

from common import done, embed, equal, port, url


class Words(Embeddings):
    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return embed(text).tolist()


db = redis.Redis(port=port())
cache = RedisCache(redis_url=url(), prefix="llm", ttl=100)
cache.update("two and two", "model", [Generation(text="four")])
equal(cache.lookup("two and two", "model")[0].text, "four")
equal(cache.lookup("two and two", "other"), None)
cache.clear()
equal(cache.lookup("two and two", "model"), None)

# Its check of an index that exists reads FT.INFO as RESP2 has it.
resp2 = url() + "?protocol=2"
history = RedisChatMessageHistory(session_id="ann-1", redis_url=resp2, index_name="chats")
history.add_message(HumanMessage("where is the harbour?"))
history.add_messages([AIMessage("behind the market"), HumanMessage("thank you")])
equal([message.content for message in history.messages], ["where is the harbour?", "behind the market", "thank you"])
equal([message.type for message in history.messages], ["human", "ai", "human"])
equal(len(history), 3)
other = RedisChatMessageHistory(session_id="bob-1", redis_url=resp2, index_name="chats")
other.add_message(HumanMessage("the harbour again"))
found = history.search_messages("harbour")
equal([message["content"] for message in found], ["where is the harbour?"])
history.clear()
equal(history.messages, [])
equal(len(other.messages), 1)
other.delete()

config = RedisConfig(
    index_name="articles", redis_url=url(), storage_type="json", metadata_schema=[{"name": "year", "type": "numeric"}]
)
store = RedisVectorStore(Words(), config=config)
texts = ["rivers of ice", "deserts of sand", "fields of wheat"]
store.add_texts(texts, [{"year": year} for year in (1990, 2000, 2010)], keys=["a", "b", "c"])
equal(store.similarity_search("sand deserts", k=1)[0].page_content, texts[1])
equal({found.page_content for found in store.similarity_search("of", k=3, filter=Num("year") >= 2000)}, set(texts[1:]))
equal(store.delete(["b"]), True)
assert texts[1] not in [found.page_content for found in store.similarity_search("sand", k=3)]
store.index.delete(drop=True)
equal(db.dbsize(), 0)
done()
