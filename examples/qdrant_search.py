"""Vectors of hexgrid in Qdrant, here within this process; QdrantClient(url=...) is the same with a server.

pip install openai qdrant-client
"""

import os

from openai import OpenAI
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")
DOCUMENTS = [
    "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
    "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
    "A circuit breaker that trips at once points to a short circuit in an appliance.",
]
QUESTION = "How do I bake bread without buying yeast?"

client = OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("HEXGRID_API_KEY", "none"))


def embed(texts: list[str], input_type: str) -> list[list[float]]:
    answer = client.embeddings.create(
        model="hexgrid/nano", input=texts, extra_body={"input_type": input_type}
    )
    return [item.embedding for item in answer.data]


vectors = embed(DOCUMENTS, "document")
qdrant = QdrantClient(":memory:")
qdrant.create_collection(
    "house",
    # Vectors have length 1, so that the dot product is the cosine and costs less.
    vectors_config=VectorParams(size=len(vectors[0]), distance=Distance.DOT),
)
qdrant.upsert(
    "house",
    [
        PointStruct(id=i, vector=vector, payload={"text": text})
        for i, (vector, text) in enumerate(zip(vectors, DOCUMENTS, strict=True))
    ],
)
(question,) = embed([QUESTION], "query")
(found,) = qdrant.query_points("house", query=question, limit=1).points
print(f"{found.score:.2f}  {found.payload['text']}")
