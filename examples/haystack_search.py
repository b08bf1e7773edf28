"""A Haystack pipeline whose embedders ask hexgrid.

pip install haystack-ai
"""

import os

from haystack import Document, Pipeline
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")
TASK = "Given a question, retrieve passages that answer it"
DOCUMENTS = [
    "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
    "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
    "A circuit breaker that trips at once points to a short circuit in an appliance.",
]
QUESTION = "How do I bake bread without buying yeast?"

server = {
    "model": "hexgrid/nano",
    "api_base_url": f"{URL}/v1",
    "api_key": Secret.from_token(os.environ.get("HEXGRID_API_KEY", "none")),
}
store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
documents = [Document(content=text) for text in DOCUMENTS]
embedder = OpenAIDocumentEmbedder(**server, progress_bar=False)
store.write_documents(embedder.run(documents)["documents"])

search = Pipeline()
# Only queries carry the instruction; the documents above do not.
search.add_component("embed", OpenAITextEmbedder(**server, prefix=f"Instruct: {TASK}\nQuery:"))
search.add_component("retrieve", InMemoryEmbeddingRetriever(store, top_k=1))
search.connect("embed.embedding", "retrieve.query_embedding")
(found,) = search.run({"embed": {"text": QUESTION}})["retrieve"]["documents"]
print(f"{found.score:.2f}  {found.content}")
