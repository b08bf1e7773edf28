"""hexgrid top: one look at a real server for scripts, and the live view on a real terminal."""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from time import monotonic

import httpx2
import psutil
import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.cli.conftest import Command, one_line
from tests.cli.hexgrid_process import DEADLINE, HEXGRID, environment
from tests.monitor.conftest import standing_in
from tests.monitor.standing_in import StandIn
from tests.server.running import KEY, embed, new_client, serving, variant

__all__ = ["standing_in"]  # a fixture

ONCE = ("--once", "--interval", "0.5")
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # a terminal's other screen


@pytest.fixture
def server(tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """A server of two models, which wants a key."""
    monkeypatch.setenv("NO_PROXY", "*")
    metrics = Metrics()
    models = [variant(tiny_model, metrics, name) for name in ("tiny", "other")]
    with serving(models, metrics, api_key=(Secret(KEY),)) as client:
        yield client


@contextmanager
def busy(server: httpx2.Client) -> Iterator[None]:
    """Requests to the model "tiny" while the block runs, good ones and refused ones."""
    stop = threading.Event()

    def ask() -> None:
        with new_client(str(server.base_url)) as client:
            while not stop.is_set():
                client.headers.pop("authorization", None)
                embed(client, "no key")
                client.headers["authorization"] = f"Bearer {KEY}"
                embed(client, [[1, 2, 3], [4, 5]])
                embed(client, "too many", dimensions=1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE)


def test_one_look_as_json(command: Command, server: httpx2.Client) -> None:
    with busy(server):
        result = command(
            "top", f"{server.base_url}/v1", *ONCE, "--json", env={"HEXGRID_API_KEY": KEY}
        )

    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert found["seconds"] >= 0.5
    assert found["requests_per_s"] > 0
    assert found["in_flight"] >= 1
    assert found["rejected_per_s"]["unauthorized"] > 0
    tiny, other = found["models"]
    assert (tiny["name"], other["name"]) == ("tiny", "other")
    assert tiny["ready"] is True
    assert tiny["inputs_per_s"] == pytest.approx(2 * tiny["requests_per_s"], rel=0.5)
    assert tiny["tokens_per_s"] == pytest.approx(5 * tiny["requests_per_s"], rel=0.5)
    assert tiny["queue_share"] is not None
    assert tiny["rejected_per_s"]["bad_request"] > 0
    for part in ("request", "tokenize", "queue", "forward", "encode"):
        assert 0 < tiny["latency"][part]["p50_ms"] <= tiny["latency"][part]["p95_ms"]
    assert other["requests_per_s"] == 0
    assert other["latency"]["request"] == {"p50_ms": None, "p95_ms": None}


def test_one_look_as_lines(command: Command, server: httpx2.Client) -> None:
    with busy(server):
        result = command("top", str(server.base_url), "--api-key", KEY, *ONCE)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(str(server.base_url).rstrip("/"))
    assert re.search(r"^model +tiny +other$", result.stdout, re.MULTILINE)
    assert re.search(r"^tokens/s +[1-9][\d,]* +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^unauthorized/s +\d", result.stdout, re.MULTILINE)
    assert "\x1b" not in result.stdout
    assert KEY not in result.stdout


def test_the_flag_beats_the_variable(command: Command, server: httpx2.Client) -> None:
    arguments = ("top", str(server.base_url), "--api-key", KEY, "--once", "--interval", "0.1")

    assert command(*arguments, env={"HEXGRID_API_KEY": "wrong"}).exit_code == 0


def test_without_a_key_it_says_how_to_give_one(command: Command, server: httpx2.Client) -> None:
    result = command("top", str(server.base_url))

    assert result.exit_code == 1
    assert "set HEXGRID_API_KEY or --api-key" in one_line(result)


def test_what_is_no_hexgrid_ends_it(command: Command, standing_in: StandIn) -> None:
    standing_in.body = "up 1\n"

    result = command("top", standing_in.url)

    assert result.exit_code == 1
    assert "is not that of a hexgrid server" in one_line(result)


def test_what_is_no_url_is_a_wrong_use(command: Command) -> None:
    result = command("top", "localhost:8000")

    assert result.exit_code == 2
    assert "must be such as http://127.0.0.1:8000" in one_line(result)


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_an_interval_is_a_positive_number(command: Command, interval: str) -> None:
    assert command("top", "http://127.0.0.1", "--interval", interval).exit_code == 2


def test_one_look_at_a_server_that_is_gone_fails(command: Command, standing_in: StandIn) -> None:
    url = standing_in.url
    standing_in.go()
    try:
        result = command("top", url, *ONCE)
    finally:
        standing_in.come()

    assert result.exit_code == 1
    assert f"{url} cannot be reached" in one_line(result)


class Watching:
    """A `hexgrid top` that runs, and what it has written so far."""

    def __init__(self, *arguments: str, columns: int | None = None) -> None:
        """On a terminal of so many columns, or into a pipe."""
        self.written = ""
        if columns is None:
            self._output, writer = os.pipe()
        else:
            self._output, writer = pty.openpty()
            ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [HEXGRID, "top", *arguments, "--interval", "0.1"],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            env=environment(TERM="xterm", NO_PROXY="*"),
        )
        os.close(writer)

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """What `pattern` matches in what comes from now on, once it does."""
        new = ""
        deadline = monotonic() + DEADLINE
        while not (found := re.search(pattern, new, re.DOTALL)):
            missing = f"{pattern!r} not in {new[-2000:]!r}"
            assert monotonic() < deadline, missing  # it may write for ever
            new += self._read(deadline, missing)
        return found

    def interrupt(self) -> int:
        """The exit code after Ctrl-C; all that it wrote has been read then."""
        self.process.send_signal(signal.SIGINT)
        deadline = monotonic() + DEADLINE
        while self._read(deadline, "it does not end"):
            pass
        os.close(self._output)
        return self.process.wait(DEADLINE)

    def _read(self, deadline: float, otherwise: str) -> str:
        """What comes next; "" at its end."""
        ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - monotonic()))
        assert ready, otherwise
        try:
            text = os.read(self._output, 65536).decode(errors="replace")
        except OSError:  # how Linux tells that a terminal's other side is closed
            text = ""
        self.written += text
        return text


@contextmanager
def watching(*arguments: str, columns: int | None = None) -> Iterator[Watching]:
    """It runs while the block does, at the longest."""
    watch = Watching(*arguments, columns=columns)
    try:
        yield watch
    finally:
        watch.process.kill()
        watch.process.wait(DEADLINE)


def test_a_terminal_shows_it_until_interrupted_and_is_left_as_it_was(standing_in: StandIn) -> None:
    with watching(standing_in.url, columns=80) as watch:
        watch.wait_for("version +0.1.0")
        watch.wait_for("version +0.1.0")

        assert watch.interrupt() == 0

    assert watch.written.count(ENTER) == watch.written.count(LEAVE) == 1
    assert watch.written.index(LEAVE) > watch.written.rindex("version")
    assert "Traceback" not in watch.written
    assert "Aborted" not in watch.written


def test_a_server_that_goes_and_comes_back_is_told_and_watched_again(standing_in: StandIn) -> None:
    with watching(standing_in.url, columns=60) as watch:
        watch.wait_for("version +0.1.0")
        standing_in.go()
        said = watch.wait_for(r"cannot be reached.*Trying again")  # over more than one line
        standing_in.come()
        back = watch.wait_for(r"\x1b\[H" + re.escape(standing_in.url) + r"[^\n]*\r\nversion +0.1.0")

        assert watch.interrupt() == 0
    assert standing_in.url in said.string
    assert "Trying again" not in back[0]


def test_a_server_that_is_not_there_yet_is_waited_for(standing_in: StandIn) -> None:
    standing_in.go()
    with watching(standing_in.url, columns=200) as watch:
        watch.wait_for("Trying again")
        standing_in.come()
        watch.wait_for("version +0.1.0")

        assert watch.interrupt() == 0


def test_a_narrow_terminal_is_not_overrun(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    models = [variant(tiny_model, metrics, f"a-model-of-number-{i}") for i in range(3)]
    with serving(models, metrics) as client, watching(str(client.base_url), columns=40) as watch:
        shown = watch.wait_for(r"2 more in a wider terminal")
        watch.interrupt()

    frames = shown.string.replace("\x1b[H", "\n")  # each begins at the top
    plain = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", frames)
    assert max(len(line) for line in plain.splitlines()) <= 40
    assert "a-model-of-number-0" in plain
    assert "a-model-of-number-1" not in plain


def test_a_pipe_gets_plain_lines_until_interrupted(standing_in: StandIn) -> None:
    with watching(standing_in.url) as watch:
        watch.wait_for(r"requests/s.*http://.*requests/s")
        standing_in.go()
        watch.wait_for(r"cannot be reached: .* Trying again every 0.1 s\n")
        standing_in.come()
        watch.wait_for(r"requests/s")

        assert watch.interrupt() == 0
    assert "\x1b" not in watch.written
    assert "Traceback" not in watch.written


def test_a_pipe_gets_one_object_a_line_with_json(standing_in: StandIn) -> None:
    with watching(standing_in.url, "--json") as watch:
        watch.wait_for(r"\n.*\n")
        watch.interrupt()

    objects = [json.loads(line) for line in watch.written.splitlines()]
    assert len(objects) >= 2
    assert all(each["version"] == "0.1.0" for each in objects)


def test_the_process_list_does_not_show_the_key(standing_in: StandIn) -> None:
    with watching(standing_in.url, "--api-key", KEY) as watch:
        watch.wait_for("version")
        shown = " ".join(psutil.Process(watch.process.pid).cmdline())

    assert KEY not in shown
    assert "--api-key ***" in shown
    assert {key for _, key in standing_in.asked} == {f"Bearer {KEY}"}
