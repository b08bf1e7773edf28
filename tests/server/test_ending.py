"""A process whose engine is dead answers whoever waits and ends with its code, whatever holds it up."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from hexgrid.server.ending import EXIT_CODE
from hexgrid.server.usage import read
from tests.server.hung_server import BREAKS, HANGS
from tests.server.running import DEADLINE, embed, error, new_client, vectors, wait_for_metric

ROOT = Path(__file__).parents[2]


class Hung:
    """The process, and a client of it."""

    def __init__(self, checkpoint: Path, usage: Path, drain_timeout: int) -> None:
        self.usage = usage
        arguments = map(str, (checkpoint, usage, drain_timeout))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.hung_server", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.client = new_client(self.url)

    def let_time_pass(self) -> None:
        """More than a forward pass may take."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Its exit code, when it has ended by itself, and all that it said on stderr."""
        _, said = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def drain_timeout() -> int:
    """Seconds, far more than the end of a dead engine may take."""
    return 1_000


@pytest.fixture
def hung(tiny_checkpoint: Path, tmp_path: Path, drain_timeout: int) -> Iterator[Hung]:
    hung = Hung(tiny_checkpoint, tmp_path / "usage", drain_timeout)
    yield hung
    hung.close()


def test_a_hung_pass_ends_the_process_after_everyone_was_answered(hung: Hung) -> None:
    for number in range(1, 4):
        vectors(embed(hung.client, [[number]]))
    with ThreadPoolExecutor(50) as callers:
        requests = [callers.submit(embed, hung.client, [[HANGS, n], [n]]) for n in range(1, 51)]
        wait_for_metric(hung.client, "http_requests_in_flight", 51)

        hung.let_time_pass()

        details = [error(request.result()) for request in requests]
    assert {(detail["code"], detail["type"]) for detail in details} == {
        (503, "ServiceUnavailableError")
    }
    code, said = hung.end()
    assert code == EXIT_CODE == 75
    assert "Traceback" not in said
    assert [used.requests for used in read(hung.usage).values()] == [3]
    assert not list(hung.usage.glob("journal-*"))  # it was shut down, not only killed
    with pytest.raises(httpx2.ConnectError):
        hung.client.get("/ready")


def test_an_engine_that_breaks_ends_the_process_too(hung: Hung) -> None:
    detail = error(embed(hung.client, [[BREAKS]]))

    assert "The engine broke (SystemExit)" in detail["message"]
    assert hung.end()[0] == EXIT_CODE


def test_a_client_that_never_finishes_its_request_does_not_keep_the_process(hung: Hung) -> None:
    host, _, port = hung.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as slow:
        slow.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        with ThreadPoolExecutor(1) as callers:
            request = callers.submit(embed, hung.client, [[HANGS]])
            wait_for_metric(hung.client, "http_requests_in_flight", 3)

            hung.let_time_pass()

            assert request.result().status_code == 503
        assert slow.recv(100).startswith(b"HTTP/1.1 503 ")
    assert hung.end()[0] == EXIT_CODE


def test_another_model_that_is_busy_does_not_keep_the_process(hung: Hung) -> None:
    with ThreadPoolExecutor(2) as callers:
        busy = callers.submit(embed, hung.client, [[HANGS]], model="other")
        request = callers.submit(embed, hung.client, [[HANGS]])
        wait_for_metric(hung.client, "http_requests_in_flight", 3)

        hung.let_time_pass()

        assert request.result().status_code == 503
        assert error(busy.result())["message"] == "The server stopped before it could answer"
    assert hung.end()[0] == EXIT_CODE


@pytest.mark.parametrize("drain_timeout", [1])
def test_sigterm_while_a_pass_hangs_answers_everyone(hung: Hung) -> None:
    with ThreadPoolExecutor(8) as callers:
        requests = [callers.submit(embed, hung.client, [[HANGS, n]]) for n in range(8)]
        wait_for_metric(hung.client, "http_requests_in_flight", 9)

        hung.process.send_signal(signal.SIGTERM)

        assert [error(request.result())["code"] for request in requests] == [503] * 8
    hung.let_time_pass()
    assert hung.end()[0] == EXIT_CODE
