"""Every curl example of the API page, run as it stands by bash against `hexgrid serve`.

Statuses, shapes and counts are compared with the page and the real tokenizer, vectors with transformers.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tokenizers
import torch

from hexgrid.encoding import Vectors
from hexgrid.model.synthetic import SHAPES
from tests.checkpoints import CheckpointFactory
from tests.cli.hexgrid_process import DEADLINE, environment, hexgrid, serve

PAGE = (Path(__file__).parent / "data/api-page.txt").read_text(encoding="utf-8")
# The page's own variables.
MODEL = "Qwen/Qwen3-Embedding-4B"
KEY = "your-hexgrid-api-key"
# Wider than any `dimensions` on the page, so that each of them cuts.
SHAPE = replace(SHAPES["0.6B"], hidden_size=1280, num_hidden_layers=2)
SIMILARITY = "Similarity result computed by your application\n"


class Example(NamedTuple):
    """One curl block, and the shape of the answer that the page shows below it, if it does."""

    command: str
    shape: dict[str, Any] | None

    @property
    def request(self) -> dict[str, Any]:
        """The body that the command sends."""
        body = self.command.partition("-d '")[2].removesuffix("'")
        request: dict[str, Any] = json.loads(body.replace("""'"$QWEN_EMBED_MODEL"'""", MODEL))
        return request

    @property
    def inputs(self) -> list[Any]:
        """Each input by itself."""
        given = self.request["input"]
        return given if isinstance(given, list) and not isinstance(given[0], int) else [given]


def _json_after(heading: str, text: str) -> Any:
    """The JSON that follows a heading; None where the text does not begin with it."""
    if not text.startswith(heading):
        return None
    return json.JSONDecoder().raw_decode(text.removeprefix(heading))[0]


def _examples() -> Iterator[Example]:
    for match in re.finditer(r"^curl .*?^}'$", PAGE, re.DOTALL | re.MULTILINE):
        yield Example(match[0], _json_after("\nResponse shape\n", PAGE[match.end() :]))


EXAMPLES = list(_examples())
NAMES = [f"{i}: {str(e.request['input'])[:40]}" for i, e in enumerate(EXAMPLES)]
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)


class Answer(NamedTuple):
    """What curl printed, and the status that it got."""

    status: int
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def vectors(self) -> Vectors:
        return np.array([item["embedding"] for item in self.body["data"]], dtype=np.float32)


class Page:
    """The examples' answers, each asked for once, and what transformers makes of the same inputs."""

    def __init__(self, checkpoint: Path, url: str, curl_home: Path) -> None:
        self.checkpoint = checkpoint
        self._variables = environment(
            HEXGRID_API_KEY=KEY,
            QWEN_EMBED_BASE_URL=f"{url}/v1",
            QWEN_EMBED_MODEL=MODEL,
            CURL_HOME=str(curl_home),
        )
        self._answers: dict[str, Answer] = {}

    def answer(self, example: Example) -> Answer:
        """What bash prints of the example's command."""
        if example.command not in self._answers:
            done = subprocess.run(
                ["bash", "-c", example.command],
                env=self._variables,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=True,
            )
            status = re.search(r"status=(\d+)", done.stderr)
            assert status, done.stderr
            self._answers[example.command] = Answer(int(status[1]), done.stdout)
        return self._answers[example.command]

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The official library's view of the checkpoint's tokenizer."""
        return tokenizers.Tokenizer.from_file(str(self.checkpoint / "tokenizer.json"))

    @cached_property
    def transformers(self) -> Any:
        """The official implementation of the model, in float32."""
        from transformers import Qwen3Model

        return Qwen3Model.from_pretrained(self.checkpoint, dtype=torch.float32).eval()

    def token_ids(self, given: Any) -> list[int]:
        """Ids as they are, a text with its EOS."""
        ids: list[int] = given if isinstance(given, list) else self.tokenizer.encode(given).ids
        return ids

    def expected(self, inputs: list[Any], dimensions: int | None) -> Vectors:
        """Last token's state, cut, then of length one: the model card's recipe."""
        rows = []
        for given in inputs:
            with torch.no_grad():
                states = self.transformers(torch.tensor([self.token_ids(given)])).last_hidden_state
            row = states[0, -1, :dimensions]
            rows.append((row / row.norm()).numpy())
        return np.array(rows)


@pytest.fixture(scope="module")
def page(
    new_checkpoint: CheckpointFactory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A server as the page assumes it."""
    checkpoint = new_checkpoint(SHAPE, dtype=torch.bfloat16)
    # curl as on the page, and its status on stderr besides.
    curl_home = tmp_path_factory.mktemp("curl")
    (curl_home / ".curlrc").write_text('silent\nwrite-out = "%{stderr}status=%{http_code}"\n')
    with serve(f"{MODEL}={checkpoint}", "--api-key", KEY, "--dtype", "float32") as server:
        yield Page(checkpoint, server.url, curl_home)
    shutil.rmtree(checkpoint)  # 450 MB


def test_the_page_has_ten_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("\ncurl ") == 10


@each_example
def test_an_example_is_answered(page: Page, example: Example) -> None:
    answer = page.answer(example)

    assert (answer.status, answer.text) == (200, answer.text)


@each_example
def test_an_answer_has_the_shape_on_the_page(page: Page, example: Example) -> None:
    body = page.answer(example).body
    shape = example.shape or EXAMPLES[0].shape
    assert shape is not None

    assert list(body) == list(shape)
    assert list(body["data"][0]) == list(shape["data"][0])
    assert list(body["usage"])[:3] == list(shape["usage"])
    assert re.fullmatch(r"embd-\w+", body["id"])
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert isinstance(body["created"], int)
    assert [item["index"] for item in body["data"]] == list(range(len(example.inputs)))
    assert {item["object"] for item in body["data"]} == {"embedding"}


@each_example
def test_usage_counts_the_real_tokenizers_tokens(page: Page, example: Example) -> None:
    usage = page.answer(example).body["usage"]

    expected = sum(len(page.token_ids(given)) for given in example.inputs)
    assert (usage["prompt_tokens"], usage["total_tokens"], usage["completion_tokens"]) == (
        expected,
        expected,
        0,
    )


def test_the_example_of_token_ids_counts_seven(page: Page) -> None:
    (example,) = [example for example in EXAMPLES if isinstance(example.inputs[0], list)]

    assert page.answer(example).body["usage"]["prompt_tokens"] == 7
    assert example.shape is not None
    assert example.shape["usage"]["prompt_tokens"] == 7


@each_example
def test_vectors_have_length_one_and_the_dimensions_asked_for(page: Page, example: Example) -> None:
    found = page.answer(example).vectors

    assert found.shape == (
        len(example.inputs),
        example.request.get("dimensions", SHAPE.hidden_size),
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@each_example
def test_vectors_are_those_of_transformers(page: Page, example: Example) -> None:
    expected = page.expected(example.inputs, example.request.get("dimensions"))

    np.testing.assert_allclose(page.answer(example).vectors, expected, atol=2e-5)


def test_rank_prints_the_similarity_result_of_the_page(page: Page) -> None:
    shape = _json_after(SIMILARITY, PAGE[PAGE.index(SIMILARITY) :])
    query, documents = (example for example in EXAMPLES if example.shape is None)
    # The page writes a space after "Query:", the checkpoint's own prompt has none.
    prompt = query.inputs[0].partition("Query:")[0] + "Query:"

    done = hexgrid(
        *("rank", shape["query"], *documents.inputs),
        *("--model", str(page.checkpoint), "--dimensions", "1024", "--dtype", "float32"),
    )

    (asked,) = page.expected([prompt + shape["query"]], 1024)
    similarities = page.expected(documents.inputs, 1024) @ asked
    best = int(similarities.argmax())
    result = json.loads(done.stdout)
    assert list(result) == list(shape)
    assert result["query"] == shape["query"]
    assert list(result["top_match"]) == list(shape["top_match"])
    assert result["top_match"]["document_index"] == best
    assert result["top_match"]["document"] == documents.inputs[best]
    assert result["top_match"]["similarity"] == pytest.approx(similarities[best], abs=2e-5)
