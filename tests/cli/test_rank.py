"""hexgrid rank: the best document, and all of them in order."""

import json
from pathlib import Path
from typing import Any

import pytest

from hexgrid.engine.served_model import ServedModel
from tests.cli.conftest import Command
from tests.reference import Reference

PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
QUERY = "Explain gravity"
DOCUMENTS = ["The capital of China is Beijing.", f"{PROMPT}{QUERY}", "重力", "An apple fell."]


@pytest.fixture
def rank(command: Command, tiny_checkpoint: Path) -> Any:
    """Runs the command and reads what it printed."""

    def run(*arguments: str) -> Any:
        result = command("rank", *arguments, "--model", str(tiny_checkpoint), "--dtype", "float32")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


def test_the_nearest_document_is_the_top_match(rank: Any) -> None:
    found = rank(QUERY, *DOCUMENTS)

    assert list(found) == ["query", "top_match"]
    assert found["query"] == QUERY
    # With random weights only the same text is near: the query with its prompt.
    assert list(found["top_match"].items()) == [
        ("document_index", 1),
        ("document", DOCUMENTS[1]),
        ("similarity", pytest.approx(1, abs=1e-5)),
    ]


def test_all_lists_every_document_best_first(
    rank: Any, tiny_checkpoint: Path, tiny_model: ServedModel
) -> None:
    texts = [PROMPT + QUERY, *DOCUMENTS]
    ids = [tiny_model.tokenizer.tokenize(text) for text in texts]
    query, *documents = Reference(tiny_checkpoint).embed(ids)
    similarities = [float(document @ query) for document in documents]

    found = rank(QUERY, *DOCUMENTS, "--all")

    order = sorted(range(len(DOCUMENTS)), key=lambda i: -similarities[i])
    assert [match["document_index"] for match in found["matches"]] == order
    assert [match["document"] for match in found["matches"]] == [DOCUMENTS[i] for i in order]
    assert [match["similarity"] for match in found["matches"]] == pytest.approx(
        [similarities[i] for i in order], abs=2e-5
    )
    assert found["matches"][0] == found["top_match"]


def test_an_instruction_replaces_the_checkpoints_prompt(rank: Any) -> None:
    documents = ["Instruct: Find duplicates\nQuery:text", "text"]

    assert rank("text", *documents, "--instruction", "Find duplicates")["top_match"] == {
        "document_index": 0,
        "document": documents[0],
        "similarity": pytest.approx(1, abs=1e-5),
    }


def test_dimensions_are_those_compared(rank: Any) -> None:
    # In one dimension every similarity is 1 or -1.
    matches = rank(QUERY, *DOCUMENTS, "--all", "--dimensions", "1")["matches"]

    assert {abs(match["similarity"]) for match in matches} == {1}


def test_of_equal_documents_the_first_wins(rank: Any) -> None:
    assert rank(QUERY, "same", "same")["top_match"]["document_index"] == 0


def test_without_a_model_the_embedded_one_ranks(command: Command) -> None:
    documents = ["The capital of China is Beijing.", "Gravity attracts two bodies to each other."]

    result = command("rank", QUERY, *documents)

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["top_match"]["document_index"] == 1


def test_a_query_alone_is_a_usage_error(command: Command) -> None:
    result = command("rank", QUERY)

    assert result.exit_code == 2
    assert "Missing argument 'DOCUMENT...'" in result.stderr
