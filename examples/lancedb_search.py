"""Vectors of hexgrid in a LanceDB table: a directory, no server.

pip install openai lancedb
"""

import os
import tempfile

import lancedb
from openai import OpenAI

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


with tempfile.TemporaryDirectory() as directory:
    table = lancedb.connect(directory).create_table(
        "house",
        [
            {"text": text, "vector": vector}
            for text, vector in zip(DOCUMENTS, embed(DOCUMENTS, "document"), strict=True)
        ],
    )
    (question,) = embed([QUESTION], "query")
    # Vectors have length 1, so that the dot product is the cosine; LanceDB's distance is 1 minus that.
    (found,) = table.search(question).distance_type("dot").limit(1).to_list()
    print(f"{1 - found['_distance']:.2f}  {found['text']}")
