"""How the server ends: what the first and the second signal do to those who wait, and its exit code."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.cli.hexgrid_process import DEADLINE, Serving, serve
from tests.server.certificates import Files, client_context
from tests.server.running import embed, error, metric, new_client, vectors, wait_until

SIGNALS = [signal.SIGTERM, signal.SIGINT]
# Minutes of work, were it not for the signal.
LONG_INPUTS = [[1 + i] * 32_000 for i in range(32)]


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that are answered later."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextmanager
def serving(checkpoint: Path, *arguments: str) -> Iterator[tuple[Serving, httpx2.Client]]:
    """A server that is ready, and its client."""
    with (
        serve(f"tiny={checkpoint}", "--dtype", "float32", *arguments) as server,
        server.client() as client,
    ):
        assert client.get("/ready").status_code == 200
        yield server, client


def start_long_request(
    server: Serving, client: httpx2.Client, callers: ThreadPoolExecutor
) -> "Future[httpx2.Response]":
    """A request whose forward passes have begun."""

    def ask() -> httpx2.Response:
        with server.client() as own:
            return embed(own, LONG_INPUTS)

    request = callers.submit(ask)
    wait_until(lambda: metric(client, "batch_sequences_count") > 0, "it runs")
    return request


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_lets_what_runs_be_answered(
    tiny_checkpoint: Path, callers: ThreadPoolExecutor, number: signal.Signals
) -> None:
    with serving(tiny_checkpoint) as (server, client):
        request = callers.submit(embed, client, [[1 + i] * 2_000 for i in range(40)], dimensions=2)
        with server.client() as other:
            wait_until(lambda: metric(other, "batch_sequences_count") > 0, "it runs")
        server.process.send_signal(number)

        assert vectors(request.result()).shape == (40, 2)
        assert server.end() == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_signal_answers_503_and_ends_at_once(
    tiny_checkpoint: Path,
    callers: ThreadPoolExecutor,
    first: signal.Signals,
    second: signal.Signals,
) -> None:
    with serving(tiny_checkpoint, "--drain-timeout", "1000") as (server, client):
        request = start_long_request(server, client, callers)
        server.process.send_signal(first)
        server.wait_for("Listening no more")
        assert not request.done()
        server.process.send_signal(second)

        detail = error(request.result())
        assert (detail["code"], detail["type"]) == (503, "ServiceUnavailableError")
        assert server.end() == 128 + second
        assert "Stopped by a second signal" in server.stderr
        assert "Traceback" not in server.stderr


def test_requests_that_outlast_the_drain_time_show_in_the_exit_code(
    tiny_checkpoint: Path, callers: ThreadPoolExecutor
) -> None:
    with serving(tiny_checkpoint, "--drain-timeout", "0") as (server, client):
        request = start_long_request(server, client, callers)
        server.process.terminate()

        assert error(request.result())["code"] == 503
        assert server.end() == 3
        assert "Stopping with 1 requests unanswered" in server.stderr


def test_before_it_listens_no_more_only_probes_are_refused(tiny_checkpoint: Path) -> None:
    with serving(tiny_checkpoint, "--drain-delay", "1000") as (server, client):
        server.process.terminate()
        wait_until(lambda: client.get("/ready").status_code == 503, "it says that it stops")

        with server.client() as late:
            answers = [late.get(path) for path in ("/ready", "/health", "/ping", "/live")]
            last = embed(late, "a")

        assert [answer.status_code for answer in answers] == [503, 503, 503, 200]
        assert vectors(last).shape == (1, 64)
        assert last.headers["connection"] == "close"
        server.process.terminate()
        assert server.end() == 128 + signal.SIGTERM


def test_after_the_delay_it_drains_and_ends(
    tiny_checkpoint: Path, callers: ThreadPoolExecutor
) -> None:
    with serving(tiny_checkpoint, "--drain-delay", "0.5", "--drain-timeout", "0") as (server, _):
        server.process.terminate()

        assert server.end() == 0


def test_an_idle_tls_connection_keeps_nobody_waiting(tiny_checkpoint: Path, tmp_path: Path) -> None:
    authority, files = trustme.CA(), Files(tmp_path)
    files.write(authority)
    arguments = ("--ssl-certfile", str(files.cert), "--ssl-keyfile", str(files.key))
    with (
        serve(f"tiny={tiny_checkpoint}", *arguments, "--drain-timeout", "5") as server,
        new_client(server.url, verify=client_context(authority)) as client,
    ):
        assert client.get("/ready").status_code == 200

        assert server.stop() == 0


@pytest.fixture
def silent_hub() -> Iterator[socket.socket]:
    """A hub that takes questions and answers none: a model from there takes for ever to load."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(DEADLINE)
        yield hub


@pytest.mark.parametrize("number", SIGNALS)
def test_while_the_model_loads_one_signal_ends_at_once(
    silent_hub: socket.socket, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "socket"
    hub = {
        "HF_ENDPOINT": f"http://127.0.0.1:{silent_hub.getsockname()[1]}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "cache"),
        "NO_PROXY": "*",
    }
    with serve("org/model", "--uds", str(path), **hub) as server:
        question, _ = silent_hub.accept()
        with question:
            assert path.is_socket()
            server.process.send_signal(number)

            assert server.end() == 128 + number
        assert not path.exists()


def test_the_unix_socket_goes_before_the_process(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serve(f"tiny={tiny_checkpoint}", "--uds", str(path)) as server:
        server.wait_for("Listening on")
        assert path.is_socket()

        assert server.stop() == 0
        assert not path.exists()


def test_the_service_manager_is_told_of_the_beginning_and_the_end(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE)
        manager.bind(name)
        with serve(f"tiny={tiny_checkpoint}", NOTIFY_SOCKET=name) as server:
            assert manager.recv(100) == b"READY=1"
            with server.client() as client:
                assert client.get("/ready").status_code == 200

            server.process.terminate()

            assert manager.recv(100) == b"STOPPING=1"
            assert server.end() == 0
