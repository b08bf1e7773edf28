"""Vectors of hexgrid in PostgreSQL with pgvector, in 16 bits: half the space, and the same ranks.

pip install openai "psycopg[binary]" pgvector

DATABASE_URL names the database; who connects must be allowed to create the extension.
"""

import os

import psycopg
from openai import OpenAI
from pgvector.psycopg import register_vector
from pgvector import HalfVector

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


with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(connection)
    vectors = embed(DOCUMENTS, "document")
    connection.execute(
        f"CREATE TEMPORARY TABLE house (text text, embedding halfvec({len(vectors[0])}))"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO house VALUES (%s, %s)",
            [(text, HalfVector(v)) for text, v in zip(DOCUMENTS, vectors, strict=True)],
        )
    # Vectors have length 1, so that the inner product is the cosine; <#> is its negative, as indexes want it.
    connection.execute("CREATE INDEX ON house USING hnsw (embedding halfvec_ip_ops)")
    (question,) = embed([QUESTION], "query")
    text, score = connection.execute(
        "SELECT text, -(embedding <#> %(question)s) FROM house ORDER BY embedding <#> %(question)s LIMIT 1",
        {"question": HalfVector(question)},
    ).fetchone()
    print(f"{score:.2f}  {text}")
