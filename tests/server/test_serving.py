"""The socket and the process: who may be let in, which port, and how it ends without losing anyone."""

import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.serving import bind, refuse_open_door, url_of
from hexgrid.wire import TokenIds
from tests.cli.hexgrid_process import serve
from tests.server.running import (
    DEADLINE,
    embed,
    error,
    metric,
    new_client,
    serving,
    vectors,
    wait_until,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_may_ask_without_a_key(host: str) -> None:
    refuse_open_door(ServerConfig(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "embeddings.example"])
def test_other_machines_may_not(host: str) -> None:
    with pytest.raises(
        ConfigError, match="HEXGRID_API_KEY, --api-key-file or --key-store, or say --allow"
    ):
        refuse_open_door(ServerConfig(host=host))


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(host="0.0.0.0", api_key=(Secret("k"),)),
        ServerConfig(host="0.0.0.0", key_store=Path("keys.sqlite3")),
        ServerConfig(host="0.0.0.0", allow_anonymous=True),
    ],
    ids=["key", "store", "anonymous"],
)
def test_other_machines_may_where_the_operator_says_so(config: ServerConfig) -> None:
    refuse_open_door(config)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_told_with_the_way_out(taken: int) -> None:
    with pytest.raises(ConfigError, match=f"port {taken}.*is another server running.*--port"):
        bind(ServerConfig(port=taken))


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("no.such.host.invalid", 0)])
def test_an_address_that_cannot_be_had_is_told(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=f"Cannot listen on {host} port {port}"):
        bind(ServerConfig(host=host, port=port))


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1")],
)
def test_the_url_shown_is_one_that_works_here(host: str, shown: str) -> None:
    with bind(ServerConfig(host=host, port=0)) as listener:
        assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


def test_an_ipv6_address_stands_in_brackets() -> None:
    with bind(ServerConfig(host="::1", port=0)) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


class SilentEngine:
    """An Engine that takes everything and never answers."""

    hidden_size = 64

    def __init__(self) -> None:
        self.death: Future[str] = Future()
        self.asked = threading.Event()
        self.waiting: list[tuple[Sequence[TokenIds], int, Salt]] = []

    def submit(
        self, token_ids: Sequence[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        self.waiting.append((token_ids, priority, salt))
        self.asked.set()
        return Future()

    def retry_after(self) -> int:
        return 1

    def check_health(self) -> None: ...

    def close(self) -> None: ...


def test_a_request_that_outlasts_the_drain_time_is_a_503(
    tiny_model: ServedModel, callers: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, engine = Metrics(), SilentEngine()
    model = replace(tiny_model, engine=engine, metrics=ModelMetrics(metrics, "tiny"))
    with ExitStack() as until_answered:
        with serving([model], metrics, drain_timeout=0) as client:
            own = until_answered.enter_context(new_client(str(client.base_url)))
            request = callers.submit(embed, own, "a")
            assert engine.asked.wait(DEADLINE)
        detail = error(request.result())

    assert (detail["code"], detail["type"]) == (503, "ServiceUnavailableError")
    assert "Traceback" not in caplog.text


def test_a_stopped_server_refuses_connections(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = replace(tiny_model, engine=SilentEngine(), metrics=ModelMetrics(metrics, "tiny"))
    with serving([model], metrics) as client:
        url = str(client.base_url)

    with pytest.raises(httpx2.ConnectError), new_client(url) as late:
        late.get("/live")


def test_sigterm_under_load_loses_no_accepted_request(
    tiny_checkpoint: Path, callers: ThreadPoolExecutor
) -> None:
    inputs = [[[1 + i] * 400] * 32 for i in range(8)]
    with (
        serve(f"tiny={tiny_checkpoint}", "--dtype", "float32") as server,
        server.client() as client,
    ):
        assert client.get("/ready").status_code == 200
        requests = [callers.submit(embed, client, each, dimensions=2) for each in inputs]

        def num_accepted() -> float:
            in_flight = metric(client, "http_requests_in_flight") - 1  # the one that asks
            return in_flight + metric(client, "http_requests_total", path="/v1/embeddings")

        wait_until(lambda: num_accepted() == len(inputs), "all are accepted")
        server.process.send_signal(signal.SIGTERM)

        assert [len(vectors(request.result())) for request in requests] == [32] * len(inputs)
        assert server.end() == 0
        assert "Traceback" not in server.stderr


def test_sigterm_right_after_the_announcement_is_not_lost(tiny_checkpoint: Path) -> None:
    with serve(f"tiny={tiny_checkpoint}") as server:
        server.wait_for("Listening on")

        assert server.stop() == 0
