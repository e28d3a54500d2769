"""LangChain's vector store and semantic cache, on hashes. Arguments: port."""

import redis
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.outputs import Generation
from langchain_redis import RedisConfig, RedisSemanticCache, RedisVectorStore
from redisvl.query.filter import Num, Tag

from common import done, embed, equal, near, port, url


class Words(Embeddings):
    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return embed(text).tolist()


db = redis.Redis(port=port())
config = RedisConfig(
    index_name="docs",
    redis_url=url(),
    metadata_schema=[{"name": "kind", "type": "tag"}, {"name": "year", "type": "numeric"}],
)
store = RedisVectorStore(Words(), config=config)
texts = ["a cat on a mat", "a dog in a park", "cats and dogs", "the stock market fell"]
metadatas = [{"kind": "pet", "year": year} for year in (2001, 2002, 2003)] + [{"kind": "news", "year": 2004}]
keys = store.add_texts(texts, metadatas, keys=["one", "two", "three", "four"])
equal(len(keys), 4)
found = store.similarity_search("a cat on a mat", k=2)
equal(found[0].page_content, texts[0])
equal(found[0].metadata["kind"], "pet")
equal([document.page_content for document in store.similarity_search("a cat on a mat", k=4, filter=Tag("kind") == "news")], [texts[3]])
found = store.similarity_search("a dog", k=4, filter=(Tag("kind") == "pet") & (Num("year") > 2001))
equal({document.page_content for document in found}, {texts[1], texts[2]})
document, score = store.similarity_search_with_score("the stock market fell", k=1)[0]
equal(document.page_content, texts[3])
near(score, 0)
found = store.max_marginal_relevance_search("a cat on a mat", k=2, fetch_k=4)
equal(len(found), 2)
equal(found[0].page_content, texts[0])
retriever = store.as_retriever(search_kwargs={"k": 1})
equal(retriever.invoke("dog park")[0].page_content, texts[1])
equal([document.page_content for document in store.get_by_ids(["two"])], [texts[1]])
store.add_texts(["a cat on two mats"], [{"kind": "pet", "year": 2010}], keys=["one"])
equal(store.similarity_search("a cat on two mats", k=1)[0].page_content, "a cat on two mats")
equal(store.delete(["one"]), True)
assert "a cat on two mats" not in [found.page_content for found in store.similarity_search("a cat on two mats", k=4)]
existing = RedisVectorStore.from_existing_index("docs", Words(), redis_url=url())
equal(existing.similarity_search("dog in park", k=1)[0].page_content, texts[1])
more = RedisVectorStore.from_documents([Document("green tea", metadata={"kind": "drink"})], Words(), index_name="more", redis_url=url())
equal(more.similarity_search("tea", k=1)[0].page_content, "green tea")
more.index.delete(drop=True)
store.index.delete(drop=True)
equal(db.dbsize(), 0)

cache = RedisSemanticCache(Words(), redis_url=url(), name="answers", distance_threshold=0.2, ttl=100)
cache.update("what colour is the sky", "model", [Generation(text="blue")])
equal(cache.lookup("the sky is what colour", "model")[0].text, "blue")
equal(cache.lookup("what colour is the sky", "another model"), None)
equal(cache.lookup("unrelated words", "model"), None)
cache.clear()
equal(cache.lookup("what colour is the sky", "model"), None)
done()
