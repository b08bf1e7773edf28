"""The texts of tests/data/eval, and the ids that OpenAI's cl100k_base has for them."""

import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, Any]]:
    """The objects of one file of tests/data/eval."""
    return [json.loads(line) for line in (_DATA / "eval" / name).read_text().splitlines()]


def eval_texts() -> list[str]:
    """Paragraphs, questions, then both sentences of each pair."""
    texts = [row["text"] for row in rows("household/paragraphs.jsonl")]
    texts += [row["text"] for row in rows("household/questions.jsonl")]
    return texts + [row[side] for row in rows("everyday.jsonl") for side in "ab"]


def cl100k_ids() -> list[list[int]]:
    """For each of `eval_texts`; tests/ecosystem compares them with tiktoken's."""
    return [json.loads(line) for line in (_DATA / "cl100k_ids.jsonl").read_text().splitlines()]
