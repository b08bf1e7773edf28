"""The real command `hexgrid` in a process of its own, and what it says on stderr."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

DEADLINE = 120.0
HEXGRID = str(Path(sys.executable).with_name("hexgrid"))


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without any of hexgrid's, and `variables`."""
    ours = ("HEXGRID_", "COLUMNS", "LINES")  # the last two: pytest-xdist gives them to its workers
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | variables


def hexgrid(
    *arguments: str, stdin: str = "", **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command that ends by itself."""
    return subprocess.run(
        [HEXGRID, *arguments],
        input=stdin,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


class Serving:
    """A `hexgrid serve` that runs; `stdout` and `stderr` grow while it does."""

    def __init__(self, arguments: tuple[str, ...], variables: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [HEXGRID, "serve", *arguments],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stdout: list[str] = []  # lines: adding to one long string takes ever longer
        self._stderr: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=read) for read in (self._read_stdout, self._read_stderr)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        """What it has said there so far."""
        return "".join(self._stdout)

    @property
    def stderr(self) -> str:
        """What it has said there so far."""
        return "".join(self._stderr)

    def wait_for(self, pattern: str, seconds: float = DEADLINE) -> "re.Match[str]":
        """What `pattern` matches on stderr, once it does; fails when the process ends before."""
        with self._news:
            self._news.wait_for(lambda: self._ended or re.search(pattern, self.stderr), seconds)
            found = re.search(pattern, self.stderr)
        assert found, f"no {pattern!r} in: {self.stderr}"
        return found

    @property
    def url(self) -> str:
        """Where it listens; waits until it says so."""
        return self.wait_for(r"Listening on (https?://\S+) ")[1]

    def client(self, *, key: str | None = None) -> httpx2.Client:
        """A client of this server."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=DEADLINE, trust_env=False)

    def stop(self) -> int:
        """The exit code after SIGTERM; all that it said has been read then."""
        self.process.terminate()
        return self.end()

    def end(self) -> int:
        """The exit code once the process ends by itself; all that it said has been read then."""
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._stdout.append(line)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._news:
                    self._stderr.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def serve(*arguments: str, **variables: str) -> Iterator[Serving]:
    """`hexgrid serve` while the block runs; on a free port, unless told of a unix socket."""
    port = () if "--uds" in arguments else ("--port", "0")
    serving = Serving((*port, *arguments), variables)
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.process.kill()
        serving.stop()


def run_curl_line(server: Serving, *options: str, **variables: str) -> str:
    """What bash prints of the command that the server proposes, with more options of curl's."""
    line = server.wait_for(r"(?m)^ +(curl .*)$")[1]
    done = subprocess.run(
        ["bash", "-c", " ".join((line, "--silent", "--show-error", *options))],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout
