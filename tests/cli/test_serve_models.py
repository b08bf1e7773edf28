"""Which models hexgrid serve has: none named, one by another name, several."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.hexgrid_process import Serving, run_curl_line, serve
from tests.server.running import vectors

DOCUMENTS = [
    "The capital of China is Beijing.",
    (
        "Gravity is a force that attracts two bodies toward each other. It gives weight to physical "
        "objects and is responsible for the movement of planets around the sun."
    ),
]


@pytest.fixture(scope="module")
def nano() -> Iterator[Serving]:
    """One that was told nothing."""
    with serve() as server:
        yield server


def test_without_a_model_the_embedded_one_is_served(nano: Serving) -> None:
    assert "(no key is required)" in nano.wait_for("Listening.*")[0]
    body = json.loads(run_curl_line(nano))

    assert body["model"] == "hexgrid/nano"
    assert len(body["data"][0]["embedding"]) == 256


@pytest.mark.parametrize("dimensions", [None, 64])
@pytest.mark.parametrize("query", ["query", "document"])
def test_without_a_model_a_question_finds_its_document(
    nano: Serving, query: str, dimensions: int | None
) -> None:
    """The API page's retrieval example, with and without the instruction."""
    options = {"dimensions": dimensions}
    bodies = (
        {"input": "Explain gravity", "input_type": query} | options,
        {"input": DOCUMENTS, "input_type": "document"} | options,
    )
    with nano.client() as client:
        asked, found = (vectors(client.post("/v1/embeddings", json=body)) for body in bodies)

    wrong, right = found @ asked[0]
    assert right > wrong + 0.2


def test_the_embedded_model_can_be_served_under_another_name() -> None:
    with serve("Qwen/Qwen3-Embedding-0.6B=hexgrid/nano") as server:
        assert json.loads(run_curl_line(server))["model"] == "Qwen/Qwen3-Embedding-0.6B"


def test_several_models_are_served_side_by_side(tiny_checkpoint: Path) -> None:
    models = [f"{name}={tiny_checkpoint}" for name in ("a", "b")]
    with serve(*models, HEXGRID_MODEL="ignored") as server, server.client() as client:
        found = [
            client.post("/v1/embeddings", json={"input": "x", "model": name}).json()["model"]
            for name in ("a", "b")
        ]

        assert found == ["a", "b"]
        assert server.stderr.count("Serving ") == 2
