"""The real application on a real uvicorn in a thread, and how the tests talk to it."""

import http.client
import math
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any, TextIO

import httpx2
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from hexgrid.config import ServerConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.protocols import Runner
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.served_model import ServedModel
from hexgrid.engine.watchdog import Clock
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.app import create_app
from hexgrid.server.logs import Logs
from hexgrid.server.registry import Models
from hexgrid.server.serving import bind, new_server, url_of
from hexgrid.server.tls import Certificates

# Every wait ends: here with a failure.
DEADLINE = 60.0
# The key of servers that have one.
KEY = "sekret-1"
# What is embedded where any text will do, and what the tokenizer appends to it.
TEXT = "Gravity is a force that attracts two bodies toward each other."
EOS = 151_643


def serving(
    models: Sequence[ServedModel], metrics: Metrics, log: TextIO | None = None, **settings: Any
) -> AbstractContextManager[httpx2.Client]:
    """A server of `models` on a free port while the block runs, and a client of it.

    All that the server logs is in `log` after the block, if there is one.
    """
    config = ServerConfig(**({"port": 0} | settings))
    return _serving(models, metrics, config, None, verify=True, log=log)


def serving_one(model: ServedModel, **settings: Any) -> AbstractContextManager[httpx2.Client]:
    """The same with one model on an engine of its own, called "m"."""
    metrics = Metrics()
    return serving([variant(model, metrics, "m")], metrics, **settings)


def serving_https(
    model: ServedModel, metrics: Metrics, certificates: Certificates, verify: ssl.SSLContext
) -> AbstractContextManager[httpx2.Client]:
    """The same over TLS; the client trusts whom `verify` trusts."""
    return _serving([model], metrics, ServerConfig(port=0), certificates, verify=verify)


@contextmanager
def _serving(
    models: Sequence[ServedModel],
    metrics: Metrics,
    config: ServerConfig,
    certificates: Certificates | None,
    *,
    verify: ssl.SSLContext | bool,
    log: TextIO | None = None,
) -> Iterator[httpx2.Client]:
    served = Models(models)
    logs = None if log is None else Logs(config, log)
    with bind(config) as listener:
        listener.listen()  # the first request waits until the thread has come so far
        app = create_app(served, config, metrics, None if logs is None else logs.requests)
        server = new_server(app, config, metrics, certificates, served.drain)
        thread = threading.Thread(target=server.run, args=([listener],), name="server")
        thread.start()
        # The client is closed last: a test may look at answers that come while the server stops.
        scheme = "http" if certificates is None else "https"
        with new_client(url_of(listener, scheme=scheme), verify=verify) as client:
            try:
                yield client
            finally:
                server.should_exit = True
                thread.join(DEADLINE)
                assert not thread.is_alive()
                if logs is not None:
                    logs.close()


def new_client(url: str, **options: Any) -> httpx2.Client:
    """A client with a connection pool of its own; nothing of the environment touches it."""
    return httpx2.Client(base_url=url, timeout=DEADLINE, trust_env=False, **options)


def variant(
    model: ServedModel,
    metrics: Metrics,
    *names: str,
    runner: Runner | None = None,
    max_num_seqs: int = 512,
    max_num_queued_tokens: int = 4_000_000,
    result_cache_bytes: int = 0,
    forward_timeout: float = math.inf,
    clock: Clock = monotonic,
    **changes: Any,
) -> ServedModel:
    """`model` under other names, with an engine of its own on its own runner or on another one."""
    if runner is None:
        assert isinstance(model.engine, NativeEngine)
        runner = model.engine._runner
    model_metrics = ModelMetrics(metrics, names[0])
    engine = NativeEngine(
        runner,
        Scheduler(max_num_batched_tokens=1024, max_num_seqs=max_num_seqs),
        model_metrics,
        results=ResultCache(result_cache_bytes),
        max_num_queued_tokens=max_num_queued_tokens,
        forward_timeout=forward_timeout,
        clock=clock,
    )
    return replace(model, names=names, metrics=model_metrics, engine=engine, **changes)


def embed(client: httpx2.Client, inputs: object, **fields: object) -> httpx2.Response:
    """The answer of POST /v1/embeddings."""
    return client.post("/v1/embeddings", json={"input": inputs} | fields)


def post_bytes(client: httpx2.Client, body: bytes, **headers: str) -> httpx2.Response:
    """The answer of POST /v1/embeddings to a body as it stands."""
    return client.post(
        "/v1/embeddings",
        content=body,
        headers={"content-type": "application/json"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def vectors(response: httpx2.Response) -> Vectors:
    """The vectors [B, D] of a good answer in the float encoding."""
    assert response.status_code == 200, response.text
    return np.array([item["embedding"] for item in response.json()["data"]], dtype=np.float32)


def num_tokens(response: httpx2.Response) -> int:
    """What a good answer says in `usage`."""
    assert response.status_code == 200, response.text
    usage = response.json()["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"]
    count: int = usage["prompt_tokens"]
    return count


def error(response: httpx2.Response) -> dict[str, Any]:
    """The error object of an answer, checked to be the only thing there and of the one shape."""
    body = response.json()
    assert body.keys() == {"error"}
    detail: dict[str, Any] = body["error"]
    assert list(detail) == ["message", "type", "param", "code"]
    assert detail["code"] == response.status_code
    assert response.headers["content-type"] == "application/json"
    return detail


def metric(client: httpx2.Client, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, as /metrics tells it now; 0 where there is none."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"hexgrid_{name}" and labels.items() <= sample.labels.items()
    )


def wait_for_metric(client: httpx2.Client, name: str, value: float, **labels: str) -> None:
    """Return when a metric has this value."""
    wait_until(lambda: metric(client, name, **labels) == value, f"{name} {labels} is {value}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask until something is so; each round asks the server, which sets the pace."""
    deadline = monotonic() + DEADLINE
    while not condition():
        assert monotonic() < deadline, f"in vain: {what}"


def connect(client: httpx2.Client) -> http.client.HTTPConnection:
    """A bare connection to the client's server, for requests that a well-behaved client would not send."""
    return http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=DEADLINE)
