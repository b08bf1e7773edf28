"""nano has learnt something: scores on the small evaluation set that random weights are far from.

The set is too small to tell two models apart; docs/nano.md has the scores that do.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.evaluation.datasets import EvaluationSet, PairSet, RetrievalSet
from hexgrid.evaluation.local import embed_with
from hexgrid.evaluation.run import evaluate
from hexgrid.metrics import Metrics
from hexgrid.model.pooling import finish
from hexgrid.model.synthetic import Shape
from tests.checkpoints import CheckpointFactory

# The least that nano may score. The teacher has 0.87, 1.00 and 1.00; the mean of untrained token vectors (the
# teacher's, after PCA) 0.61, 0.53 and 0.71; random weights 0.4, 0.2 and 0.3.
LEAST = {"spearman": 0.65, "recall@1": 0.75, "ndcg@10": 0.85}
# What may be lost at fewer dimensions than all 256.
MAY_LOSE = {256: 0.0, 128: 0.05, 64: 0.10}
# Questions, of 32, whose first paragraph may change with the checkpoint's own query prompt before them.
MOST_CHANGED = 4


def shortfalls(
    model: ServedModel, sets: list[EvaluationSet], query_prompt: str = ""
) -> dict[tuple[str, int], float]:
    """Scores below the least, by name and dimensions."""
    report = evaluate(
        sets, embed_with(model), dimensions=tuple(MAY_LOSE), query_prompt=query_prompt
    )
    return {
        (name, result.dimensions): score
        for result in report.results
        for name, score in result.scores.items()
        if name in LEAST and not score >= LEAST[name] - MAY_LOSE[result.dimensions]
    }


@pytest.fixture(scope="module")
def random_model(new_checkpoint: CheckpointFactory) -> Iterator[ServedModel]:
    """Random weights of nano's shape."""
    config = json.loads((nano.DIRECTORY / "config.json").read_text())
    shape = Shape(**{field.name: config[field.name] for field in fields(Shape)})
    directory = new_checkpoint(shape, dtype=torch.bfloat16)
    model = open_model(["random"], directory, EngineConfig(dtype="float32"), Metrics())
    shutil.rmtree(directory)  # 80 MB
    yield model
    model.engine.close()


@pytest.mark.parametrize("prompt", ["none", "query"])
def test_nano_scores_what_it_should(
    nano_model: ServedModel, sets: list[EvaluationSet], prompt: str
) -> None:
    query_prompt = nano_model.prompts["query"] if prompt == "query" else ""

    assert shortfalls(nano_model, sets, query_prompt) == {}


def test_16_bit_floats_cost_nothing_that_counts(
    sets: list[EvaluationSet], nano_model: ServedModel
) -> None:
    model = open_model(["nano"], nano.NAME, EngineConfig(dtype="bfloat16"), Metrics())
    texts = [text for each in sets for text in texts_of(each)]

    exact, narrow = (vectors(each, texts) for each in (nano_model, model))

    model.engine.close()
    assert np.einsum("nh,nh->n", exact, narrow).min() > 0.999


def test_random_weights_in_its_place_fail_every_score(
    random_model: ServedModel, sets: list[EvaluationSet]
) -> None:
    missed = shortfalls(random_model, sets)

    assert missed.keys() == {(name, width) for name in LEAST for width in MAY_LOSE}
    assert all(score < LEAST[name] - 0.2 for (name, _), score in missed.items())


def test_an_instruction_hardly_changes_what_is_found_first(
    nano_model: ServedModel, sets: list[EvaluationSet]
) -> None:
    (data,) = (each for each in sets if isinstance(each, RetrievalSet))
    paragraphs = vectors(nano_model, data.paragraphs)

    plain, instructed = (
        (vectors(nano_model, [prompt + text for text in data.questions]) @ paragraphs.T).argmax(1)
        for prompt in ("", nano_model.prompts["query"])
    )

    assert np.count_nonzero(plain != instructed) <= MOST_CHANGED


def texts_of(data: EvaluationSet) -> list[str]:
    if isinstance(data, PairSet):
        return [*data.left, *data.right]
    return [*data.questions, *data.paragraphs]


def vectors(model: ServedModel, texts: list[str]) -> Vectors:
    """Unit vectors [N, H]."""
    hidden = model.engine.submit(model.tokenizer.encode(texts).token_ids).result()
    return finish(hidden, dimensions=None, normalize=True)
