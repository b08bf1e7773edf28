"""`hexgrid serve` as a benchmark sees it: a process, its port, and how long it took to be ready."""

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

_DEADLINE = 300.0  # seconds to wait for /ready
_POLL = 0.005


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    port: int
    pid: int
    seconds: float  # from its start to the first 200 of /ready

    @property
    def resident_bytes(self) -> int:
        """Its memory now (Linux)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = (each for each in lines if each.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """`hexgrid serve` with these arguments on a free port, until the `with` block ends.

    Raises:
        SystemExit: it does not become ready.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hexgrid = str(Path(sys.executable).with_name("hexgrid"))
    command = [hexgrid, "serve", *arguments, "--port", str(port)]
    start = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None or perf_counter() - start > _DEADLINE:
                    raise SystemExit(f"{' '.join(command)} did not become ready")
                sleep(_POLL)
            yield Running(port, process.pid, perf_counter() - start)
        finally:
            process.terminate()


def start_time(*arguments: str) -> float:
    """Seconds from starting `hexgrid serve` to the first 200 of /ready."""
    with running(*arguments) as server:
        return server.seconds


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
