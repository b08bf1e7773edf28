"""Vectors of hexgrid in DuckDB: a column of fixed-size arrays, compared in SQL without any extension.

pip install openai duckdb
"""

import os

import duckdb
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


vectors = embed(DOCUMENTS, "document")
dimensions = len(vectors[0])
database = duckdb.connect()
database.execute(f"CREATE TABLE house (text VARCHAR, embedding FLOAT[{dimensions}])")
database.executemany("INSERT INTO house VALUES (?, ?)", list(zip(DOCUMENTS, vectors, strict=True)))
(question,) = embed([QUESTION], "query")
text, score = database.execute(
    f"""
    SELECT text, array_inner_product(embedding, ?::FLOAT[{dimensions}]) AS score
    FROM house ORDER BY score DESC LIMIT 1
    """,
    [question],
).fetchone()
print(f"{score:.2f}  {text}")
