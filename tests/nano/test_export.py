"""What `hexgrid checkpoint export hexgrid/nano` writes gives nano's vectors in other software."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hexgrid import nano
from hexgrid.cli import main
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from hexgrid.model.pooling import finish
from tests.model.running import Transformers

TEXTS = [
    "What is the capital of China?",
    "",
    "Gravity is a force that attracts two bodies toward each other. " * 40,
    "def median(numbers):\n    ordered = sorted(numbers)\n    return ordered[len(ordered) // 2]",
    "重力是什么?",  # of tokens that nano never learnt
    "Beijing.",
]
WIDTHS = [None, 64]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The export, in float32."""
    directory = tmp_path_factory.mktemp("export") / "nano"
    result = CliRunner().invoke(main, ["checkpoint", "export", nano.NAME, str(directory)])
    assert result.exit_code == 0, result.stderr
    yield directory
    shutil.rmtree(directory)  # 180 MB


def ours(model: ServedModel, texts: list[str], dimensions: int | None) -> Vectors:
    """Unit vectors [N, dimensions] as the server makes them."""
    hidden = model.engine.submit(model.tokenizer.encode(texts).token_ids).result()
    return finish(hidden, dimensions=dimensions, normalize=True)


@pytest.mark.parametrize("dimensions", WIDTHS)
def test_transformers_gives_the_same_vectors(
    exported: Path, nano_model: ServedModel, dimensions: int | None
) -> None:
    ids = nano_model.tokenizer.encode(TEXTS).token_ids

    hidden = Transformers(exported).forward(ids, padding="left")[:, :dimensions]

    theirs = torch.nn.functional.normalize(hidden).numpy()
    np.testing.assert_allclose(ours(nano_model, TEXTS, dimensions), theirs, atol=1e-4)


@pytest.mark.parametrize("dimensions", WIDTHS)
@pytest.mark.parametrize("prompt", ["query", "document"])
def test_sentence_transformers_gives_the_same_vectors(
    exported: Path, nano_model: ServedModel, dimensions: int | None, prompt: str
) -> None:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(exported), device="cpu", truncate_dim=dimensions)

    theirs = peer.encode(TEXTS, prompt_name=prompt, normalize_embeddings=True)

    texts = [nano_model.prompts[prompt] + text for text in TEXTS]
    np.testing.assert_allclose(ours(nano_model, texts, dimensions), theirs, atol=1e-4)


def test_the_export_takes_the_model_card_and_the_notices_along(exported: Path) -> None:
    for name in ("README.md", "LICENSE", "NOTICE"):
        assert (exported / name).read_bytes() == (nano.DIRECTORY / name).read_bytes()
    assert not list(exported.rglob("*.py*"))
