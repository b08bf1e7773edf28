"""A LlamaIndex index over hexgrid, by way of its OpenAI-like embeddings.

pip install llama-index-core llama-index-embeddings-openai-like
"""

import os

from llama_index.core import Document, VectorStoreIndex
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")
TASK = "Given a question, retrieve passages that answer it"
DOCUMENTS = [
    "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
    "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
    "A circuit breaker that trips at once points to a short circuit in an appliance.",
]
QUESTION = "How do I bake bread without buying yeast?"


class HexgridEmbedding(OpenAILikeEmbedding):
    """Documents as they are; queries with the instruction that Qwen3-Embedding was trained with."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return super()._get_query_embedding(f"Instruct: {TASK}\nQuery:{query}")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await super()._aget_query_embedding(f"Instruct: {TASK}\nQuery:{query}")


embedding = HexgridEmbedding(
    model_name="hexgrid/nano",
    api_base=f"{URL}/v1",
    api_key=os.environ.get("HEXGRID_API_KEY", "none"),
    embed_batch_size=256,  # 10 by default: the server fills its batches better from fewer, larger requests
)
index = VectorStoreIndex.from_documents(
    [Document(text=text) for text in DOCUMENTS], embed_model=embedding
)
(found,) = index.as_retriever(similarity_top_k=1).retrieve(QUESTION)
print(f"{found.score:.2f}  {found.text}")
