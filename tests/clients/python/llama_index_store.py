"""LlamaIndex's vector store with RedisVL 0.4.1 and redis-py 5. Arguments: port."""

import redis
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.redis import RedisVectorStore
from redisvl.schema import IndexSchema

from common import done, embed, equal, near, port, url

schema = IndexSchema.from_dict(
    {
        "index": {"name": "notes", "prefix": "note", "key_separator": ":"},
        "fields": [
            {"type": "tag", "name": "id"},
            {"type": "tag", "name": "doc_id"},
            {"type": "text", "name": "text"},
            {"type": "tag", "name": "author"},
            {"type": "numeric", "name": "year"},
            {
                "type": "vector",
                "name": "vector",
                "attrs": {"dims": 32, "algorithm": "hnsw", "distance_metric": "cosine", "datatype": "float32"},
            },
        ],
    }
)
db = redis.Redis(port=port())
store = RedisVectorStore(schema=schema, redis_url=url(), overwrite=True)
texts = [("river bank", "ann", 2001), ("bank of money", "bob", 2005), ("river of stones", "ann", 2010)]


def node(number, text, author, year):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{number}")}
    return TextNode(
        id_=f"n{number}", text=text, embedding=embed(text).tolist(), metadata={"author": author, "year": year}, relationships=source
    )


nodes = [node(number, *entry) for number, entry in enumerate(texts)]
equal(len(store.add(nodes)), 3)


def ask(text, k=3, filters=None):
    query = VectorStoreQuery(query_embedding=embed(text).tolist(), similarity_top_k=k, filters=filters)
    return store.query(query)


result = ask("river bank", 2)
equal(result.nodes[0].text, "river bank")
near(result.similarities[0], 1)
by_ann = MetadataFilters(filters=[MetadataFilter(key="author", value="ann", operator=FilterOperator.EQ)])
equal(sorted(found.text for found in ask("bank", 3, by_ann).nodes), ["river bank", "river of stones"])
late = MetadataFilters(
    filters=[
        MetadataFilter(key="author", value="ann", operator=FilterOperator.EQ),
        MetadataFilter(key="year", value=2005, operator=FilterOperator.GT),
    ]
)
equal([found.text for found in ask("bank", 3, late).nodes], ["river of stones"])
equal(store.index_exists(), True)
store.delete("doc1")
equal(sorted(found.text for found in ask("bank").nodes), ["river bank", "river of stones"])
store.persist(in_background=True)
store.delete_index()
equal(store.index_exists(), False)
done()
