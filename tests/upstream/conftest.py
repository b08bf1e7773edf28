"""What tests of upstreams share with those of the server, and the server's models computed by another one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.engine.served_model import Front, ServedModel, open_front
from hexgrid.metrics import Metrics
from hexgrid.model.checkpoint import Outline
from hexgrid.tokenizer import Tokenizer
from hexgrid.upstream import opening
from tests.server.conftest import SHORT_MODEL_LEN, callers, own_ids
from tests.server.conftest import client as computing
from tests.server.running import serving
from tests.upstream.fronting import open_upstreams

__all__ = ["callers", "computing", "own_ids"]


@pytest.fixture(scope="session", autouse=True)
def _one_tokenizer() -> Iterator[None]:
    """Fronts of the same files share what they have read: it takes longer than all else that they do."""
    opened: dict[tuple[Path, int | None], Front] = {}

    def open_once(outline: Outline, max_model_len: int | None, **options: Any) -> Front:
        key = (outline.directory, max_model_len)
        if key not in opened:
            opened[key] = open_front(outline, max_model_len, **options)
        return opened[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "open_front", open_once)
        yield


@pytest.fixture(scope="session")
def client(
    tiny_checkpoint: Path, tiny_model: ServedModel, computing: httpx2.Client
) -> Iterator[httpx2.Client]:
    """A client of a server with the same four models, each computed by that of the same name there."""
    metrics = Metrics()
    url = str(computing.base_url)
    tiny, other, short, listed = (
        open_upstreams(tiny_checkpoint, [url], metrics, *names, upstream_model=computed_as)
        for computed_as, *names in (
            ("tiny", "tiny", "alias"),
            ("other", "other"),
            ("tiny", "short"),
            ("tiny", "listed"),
        )
    )
    tokenizer = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=tiny_model.tokenizer.vocab_size,
        max_model_len=SHORT_MODEL_LEN,
    )
    models = [
        tiny,
        other,
        replace(short, tokenizer=tokenizer, max_model_len=SHORT_MODEL_LEN),
        replace(listed, matryoshka_dimensions=(16, 32)),
    ]
    with serving(models, metrics) as client:
        yield client
