"""The application's life: what it closes when the server stops."""

import threading

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import EngineClosedError
from hexgrid.metrics import Metrics
from tests.server.running import embed, serving, variant, vectors


def test_stopping_closes_every_engine_and_leaves_no_thread(tiny_model: ServedModel) -> None:
    before = set(threading.enumerate())
    metrics = Metrics()
    models = [variant(tiny_model, metrics, name) for name in ("a", "b")]
    with serving(models, metrics) as client:
        vectors(embed(client, "text", model="b"))

    for model in models:
        with pytest.raises(EngineClosedError):
            model.engine.check_health()
    assert set(threading.enumerate()) <= before
