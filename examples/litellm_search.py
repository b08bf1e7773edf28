"""hexgrid behind LiteLLM, which takes any server of OpenAI's API as openai/NAME.

pip install litellm
"""

import os

# Else it asks GitHub for a list of prices when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")
DOCUMENTS = [
    "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
    "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
    "A circuit breaker that trips at once points to a short circuit in an appliance.",
]
QUESTION = "How do I bake bread without buying yeast?"


def embed(texts: list[str], input_type: str) -> list[list[float]]:
    answer = litellm.embedding(
        model="openai/hexgrid/nano",  # "openai/" is LiteLLM's, the rest is the served name
        input=texts,
        api_base=f"{URL}/v1",
        api_key=os.environ.get("HEXGRID_API_KEY", "none"),
        encoding_format="float",
        extra_body={"input_type": input_type},
    )
    return [item["embedding"] for item in answer.data]


def similarity(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))  # vectors have length 1


(question,) = embed([QUESTION], "query")
scores = [similarity(question, document) for document in embed(DOCUMENTS, "document")]
best = max(range(len(DOCUMENTS)), key=scores.__getitem__)
print(f"{scores[best]:.2f}  {DOCUMENTS[best]}")
