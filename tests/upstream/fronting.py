"""A front whose upstreams are real servers of the same checkpoint, and what its tests see of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from hexgrid.config import EngineConfig, UpstreamConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.upstream.opening import open_upstream_model
from tests.server.running import serving

_ENGINE = {"max_model_len", "max_num_batched_tokens", "forward_timeout", "result_cache_dir"}


def open_upstreams(
    checkpoint: Path, urls: list[str], metrics: Metrics, *names: str, **settings: Any
) -> ServedModel:
    """A model called "front", or `names`, whose vectors are computed at `urls`; nothing is cached."""
    engine = {name: settings.pop(name) for name in _ENGINE & settings.keys()}
    return open_upstream_model(
        names or ("front",),
        checkpoint,
        EngineConfig(**({"result_cache_bytes": 0} | engine)),
        UpstreamConfig(
            engine="vllm",
            upstream=tuple(urls),
            **({"upstream_start_timeout": 30.0} | settings),
        ),
        metrics,
    )


@contextmanager
def fronting(
    checkpoint: Path, *upstreams: httpx2.Client, **settings: Any
) -> Iterator[httpx2.Client]:
    """A client of a server whose one model is computed by these clients' servers."""
    metrics = Metrics()
    urls = [str(upstream.base_url) for upstream in upstreams]
    model = open_upstreams(checkpoint, urls, metrics, **settings)
    with serving([model], metrics) as client:
        yield client
