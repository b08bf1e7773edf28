"""hexgrid verify: passes with numbers that are right, names what is off, knows the three sizes by shape.

The real weights cannot be had here, so numbers "published" for a small checkpoint come from transformers.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hexgrid.cli import main, models
from hexgrid.cli.verify import Check, published_checks, self_checks, size_of
from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import CheckpointError
from hexgrid.model.synthetic import SHAPES
from hexgrid.reference import Published, SimilarityReference, VectorReference, load_published
from tests.checkpoints import CheckpointFactory

PUBLISHED = load_published()


@pytest.fixture(scope="module")
def fitting(tiny_checkpoint: Path, tiny_model: ServedModel) -> Published:
    """All published texts of 0.6B, with the numbers that transformers gives for `tiny_checkpoint`."""
    from transformers import AutoModel

    reference = AutoModel.from_pretrained(tiny_checkpoint, dtype=torch.float32)

    def vectors(texts: list[str]) -> Vectors:
        rows = []
        for ids in tiny_model.tokenizer.encode(texts).token_ids:
            with torch.inference_mode():
                rows.append(reference(torch.tensor([ids])).last_hidden_state[0, -1])
        normalised: Vectors = torch.nn.functional.normalize(torch.stack(rows)).numpy()
        return normalised

    def similarity(entry: SimilarityReference) -> SimilarityReference:
        scores = vectors(entry.queries) @ vectors(entry.documents).T
        return msgspec.structs.replace(entry, scores=scores.tolist(), tolerance=None)

    def vector(entry: VectorReference) -> VectorReference:
        (row,) = vectors([entry.text])
        first = entry.first % len(row)
        return msgspec.structs.replace(entry, first=first, values=row[first:].tolist())

    return msgspec.structs.replace(
        PUBLISHED,
        similarities=[similarity(s) for s in PUBLISHED.similarities if s.size == "0.6B"],
        vectors=[vector(v) for v in PUBLISHED.vectors],
    )


def off(checks: Iterator[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_numbers_that_are_right_pass(tiny_model: ServedModel, fitting: Published) -> None:
    checks = list(published_checks(tiny_model, "0.6B", fitting))

    assert off(iter(checks)) == []
    assert len(checks) == 1 + 8 + len(fitting.vectors)


@pytest.mark.parametrize("by", [0.002, float("nan")])
def test_a_vector_that_is_off_is_named(
    tiny_model: ServedModel, fitting: Published, by: float
) -> None:
    wrong = fitting.vectors[0]
    wrong = msgspec.structs.replace(wrong, values=[wrong.values[0] + by, *wrong.values[1:]])
    numbers = msgspec.structs.replace(fitting, vectors=[wrong, *fitting.vectors[1:]])

    (name,) = off(published_checks(tiny_model, "0.6B", numbers))

    assert "What is deep learning?" in name


def test_the_tolerance_follows_the_dtype(tiny_model: ServedModel, fitting: Published) -> None:
    wrong = fitting.similarities[0]
    shifted = (np.array(wrong.scores) + 0.002).tolist()
    numbers = msgspec.structs.replace(
        fitting, similarities=[msgspec.structs.replace(wrong, scores=shifted)]
    )

    assert len(off(published_checks(tiny_model, "0.6B", numbers))) == 4
    assert off(published_checks(replace(tiny_model, precision="bfloat16"), "0.6B", numbers)) == []


def test_other_token_ids_are_off(tiny_model: ServedModel, fitting: Published) -> None:
    ids = msgspec.structs.replace(fitting.token_ids, ids=[*fitting.token_ids.ids, 151645])
    numbers = msgspec.structs.replace(fitting, token_ids=ids)

    assert off(published_checks(tiny_model, "0.6B", numbers)) == ["token ids of a query"]


def test_each_input_alone_equals_itself_in_company(tiny_model: ServedModel) -> None:
    checks = list(self_checks(tiny_model))

    assert off(iter(checks)) == []
    assert any("2048 tokens" in check.name for check in checks)


@pytest.mark.parametrize("size", ["0.6B", "4B", "8B"])
def test_the_three_sizes_are_known_by_shape_and_have_numbers(
    size: str, tiny_model: ServedModel
) -> None:
    shape = SHAPES[size]  # type: ignore[index]
    model = replace(
        tiny_model,
        embedding_dimension=shape.hidden_size,
        config=replace(tiny_model.config, num_hidden_layers=shape.num_hidden_layers),
    )

    assert size_of(model) == size
    assert any(s.size == size for s in PUBLISHED.similarities)


def test_the_embedded_model_is_none_of_the_three() -> None:
    result = CliRunner().invoke(main, ["verify", "hexgrid/nano"])

    assert result.exit_code == 1
    assert "hexgrid/nano has 256 dimensions" in result.stderr.splitlines()[-1]
    assert "`hexgrid eval` scores any model" in result.stderr.splitlines()[-1]


def test_another_shape_is_refused_by_name(tiny_model: ServedModel) -> None:
    with pytest.raises(CheckpointError, match="64 dimensions and 2 layers"):
        size_of(tiny_model)


def test_the_command_computes_every_vector_anew(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEXGRID_RESULT_CACHE_BYTES", "1000000")
    monkeypatch.setenv("HEXGRID_RESULT_CACHE_DIR", "/kept")
    configs = []

    def opened(model: str, config: EngineConfig) -> NoReturn:
        configs.append(config)
        raise CheckpointError("far enough")

    monkeypatch.setattr(models, "opened", opened)

    CliRunner().invoke(main, ["verify", str(tiny_checkpoint)])

    (config,) = configs
    assert (config.result_cache_bytes, config.result_cache_dir) == (0, None)
    assert config.prefix_cache_bytes == 0


def test_the_command_fails_on_random_weights_and_says_what_is_off(
    new_checkpoint: CheckpointFactory,
) -> None:
    # The width and depth of 0.6B, and as little else as there can be.
    shape = replace(
        SHAPES["0.6B"],
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=16,
    )
    directory = new_checkpoint(shape, dtype=torch.bfloat16)

    result = CliRunner().invoke(main, ["verify", str(directory), "--dtype", "float32"])

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[1].startswith("ok    token ids of a query")
    assert sum(line.startswith("OFF") for line in lines) >= 12
    assert not any(line.startswith("OFF   alone") for line in lines)
    assert lines[-1].endswith("checks failed")
