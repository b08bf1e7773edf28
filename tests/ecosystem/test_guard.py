"""LangChain's default, for real: it sends cl100k_base's ids, and the server tells of it."""

import json
import subprocess
from pathlib import Path

import pytest

from hexgrid.server.cl100k import NUM_TOKENS, NUMBERS
from tests.cli.hexgrid_process import Serving
from tests.eval_texts import cl100k_ids, eval_texts, rows
from tests.server.running import metric

pytestmark = pytest.mark.ecosystem

# LiteLLM carries the vocabulary where tiktoken looks for it; else that would be downloaded.
_VOCABULARY = """
import os, pathlib, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
root = pathlib.Path(litellm.__file__).parent
os.environ["TIKTOKEN_CACHE_DIR"] = str(root / "litellm_core_utils/tokenizers")
"""
_LANGCHAIN = """
import json
import httpx
from langchain_openai import OpenAIEmbeddings
warnings = []
def note(response):
    warnings.append(response.headers.get("x-hexgrid-warning"))
client = httpx.Client(event_hooks={"response": [note]})
url, check, texts = json.load(sys.stdin)
options = {} if check else {"check_embedding_ctx_length": False}
embeddings = OpenAIEmbeddings(
    model="hexgrid/nano", base_url=url + "/v1", api_key="none", http_client=client, **options
)
embeddings.embed_documents(texts)
print(json.dumps(warnings))
"""
_TIKTOKEN = """
import json
import tiktoken
encoding = tiktoken.get_encoding("cl100k_base")
tokens = [encoding.decode_single_token_bytes(i) for i in range(100256)]
print(json.dumps({
    "ids": [encoding.encode(text) for text in json.load(sys.stdin)],
    "numbers": [i for i, token in enumerate(tokens) if token.isdigit() and len(token) > 1],
}))
"""


def run(python: Path, script: str, value: object) -> object:
    """What a script prints as JSON; it is given `value` as JSON."""
    done = subprocess.run(
        [python, "-c", _VOCABULARY + script],
        input=json.dumps(value),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: object = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_what_we_know_of_cl100k_is_what_tiktoken_says(python: Path) -> None:
    told = run(python, _TIKTOKEN, eval_texts())

    assert told == {"ids": cl100k_ids(), "numbers": NUMBERS.tolist()}
    assert NUMBERS.max() < NUM_TOKENS


def test_langchains_default_is_noticed(python: Path, server: Serving) -> None:
    texts = [row["text"] for row in rows("household/paragraphs.jsonl")]

    warnings = run(python, _LANGCHAIN, [server.url, True, texts])

    assert isinstance(warnings, list)
    assert warnings
    assert all("check_embedding_ctx_length=False" in str(warning) for warning in warnings)
    server.wait_for("A request to the model hexgrid/nano: token ids look like those of OpenAI's")
    with server.client() as client:
        assert metric(client, "foreign_token_id_requests_total") == len(warnings)


def test_langchain_as_the_docs_have_it_is_not(python: Path, server: Serving) -> None:
    warnings = run(python, _LANGCHAIN, [server.url, False, eval_texts()])

    assert isinstance(warnings, list)
    assert set(warnings) == {None}
