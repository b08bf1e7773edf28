"""A LangChain vector store over hexgrid, by way of langchain-openai.

pip install langchain-openai
"""

import os

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")
TASK = "Given a question, retrieve passages that answer it"
DOCUMENTS = [
    "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
    "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
    "A circuit breaker that trips at once points to a short circuit in an appliance.",
]
QUESTION = "How do I bake bread without buying yeast?"


class HexgridEmbeddings(OpenAIEmbeddings):
    """Documents as they are; queries with the instruction that Qwen3-Embedding was trained with."""

    def embed_query(self, text: str, **kwargs: object) -> list[float]:
        return super().embed_query(f"Instruct: {TASK}\nQuery:{text}", **kwargs)


embeddings = HexgridEmbeddings(
    model="hexgrid/nano",
    base_url=f"{URL}/v1",
    api_key=os.environ.get("HEXGRID_API_KEY", "none"),
    # By default this class counts and cuts with OpenAI's tokenizer and sends its token ids, not your text.
    # Here those ids are other words: nothing fails, and nothing is found. False sends the text.
    check_embedding_ctx_length=False,
)
store = InMemoryVectorStore.from_texts(DOCUMENTS, embeddings)
((document, score),) = store.similarity_search_with_score(QUESTION, k=1)
print(f"{score:.2f}  {document.page_content}")
