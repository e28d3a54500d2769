"""agno's vector store. Arguments: port."""

from agno.knowledge.document import Document
from agno.knowledge.embedder.base import Embedder
from agno.vectordb.redis import RedisDB

from common import done, embed, equal, url


class Words(Embedder):
    dimensions = 32

    def get_embedding(self, text):
        return embed(text).tolist()

    def get_embedding_and_usage(self, text):
        return self.get_embedding(text), None


store = RedisDB(index_name="knowledge", redis_url=url(), embedder=Words(dimensions=32))
equal(store.exists(), False)
store.create()
equal(store.exists(), True)
documents = [
    Document(name="tea", content="green tea grows in the hills", meta_data={"category": "plants"}),
    Document(name="boats", content="boats float on water", meta_data={"category": "things"}),
]
store.insert("first", documents)
equal(store.search("green tea", limit=1)[0].name, "tea")
equal(store.name_exists("boats"), True)
equal(store.content_hash_exists("first"), True)
store.upsert("first", [Document(name="tea", content="black tea is dried longer", meta_data={"category": "plants"})])
equal(store.search("black tea", limit=1)[0].content, "black tea is dried longer")
equal(store.delete_by_name("tea"), True)
equal(store.name_exists("tea"), False)
store.drop()
equal(store.exists(), False)
done()
