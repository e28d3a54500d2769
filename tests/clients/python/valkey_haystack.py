"""Haystack's document store for Valkey, on JSON documents, with valkey-glide. Arguments: port."""

from haystack.dataclasses import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.retrievers.valkey import ValkeyEmbeddingRetriever
from haystack_integrations.document_stores.valkey import ValkeyDocumentStore

from common import done, embed, equal, port

store = ValkeyDocumentStore(
    nodes_list=[("127.0.0.1", port())], index_name="haystack", embedding_dim=32, metadata_fields={"kind": str, "year": int}
)
texts = [("green tea", "drink", 2001), ("black tea", "drink", 2005), ("green apples", "fruit", 2009)]
documents = [
    Document(id=f"d{number}", content=text, embedding=embed(text).tolist(), meta={"kind": kind, "year": year})
    for number, (text, kind, year) in enumerate(texts)
]
equal(store.write_documents(documents, policy=DuplicatePolicy.OVERWRITE), 3)
equal(store.count_documents(), 3)


def field(name, operator, value):
    return {"field": f"meta.{name}", "operator": operator, "value": value}


retriever = ValkeyEmbeddingRetriever(document_store=store, top_k=2)
found = retriever.run(query_embedding=embed("green tea").tolist())["documents"]
equal(found[0].content, "green tea")
equal(len(found), 2)
found = retriever.run(query_embedding=embed("green tea").tolist(), filters=field("kind", "==", "fruit"))["documents"]
equal([document.content for document in found], ["green apples"])
both = {"operator": "AND", "conditions": [field("kind", "==", "drink"), field("year", ">", 2001)]}
equal([document.content for document in store.filter_documents(both)], ["black tea"])
equal(store.count_documents_by_filter(field("kind", "==", "drink")), 2)
equal(store.update_by_filter(field("kind", "==", "fruit"), {"year": 2020}), 1)
equal([document.content for document in store.filter_documents(field("year", ">=", 2020))], ["green apples"])
store.delete_documents(["d0"])
equal(store.count_documents(), 2)
store.delete_all_documents()
equal(store.count_documents(), 0)
store.close()
done()
