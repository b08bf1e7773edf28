"""Real vLLM servers, from the environment that the benchmarks pin, in processes of their own."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import httpx2
from peers.environment import python_of

STARTUP_SECONDS = 420.0
VERSION = "0.32.0"
# Small enough for the tests' machine, and the same arithmetic as our own engine's in its tests.
FLAGS = ("--dtype", "float32", "--enforce-eager")


@cache
def command() -> str:
    """What stands before vLLM's options; the first call makes the environment, which takes minutes."""
    return f"{python_of('vllm')} -m vllm.entrypoints.cli.main serve"


def environment(directory: Path) -> dict[str, str]:
    """Variables for a vLLM on this machine's CPU; `directory` is to write to."""
    # vLLM tells its platform by the version of a distribution called vllm, which the CPU wheel is not.
    stub = directory / f"vllm-{VERSION}+cpu.dist-info"
    stub.mkdir(exist_ok=True)
    (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEXGRID_")}
    return kept | {
        "PYTHONPATH": str(directory),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_NO_USAGE_STATS": "1",
    }


class Vllm:
    """A server that answers, and its process."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self.url = url

    def client(self) -> httpx2.Client:
        """A client of it."""
        return httpx2.Client(base_url=self.url, timeout=60.0, trust_env=False)

    def kill(self) -> None:
        """End it and its workers as a lost machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def vllm(checkpoint: Path, directory: Path, port: int, name: str) -> Iterator[Vllm]:
    """vLLM with `checkpoint` on `port` while the block runs; its log is in `directory`."""
    arguments = [*command().split(), str(checkpoint), *FLAGS, "--runner", "pooling"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    directory.mkdir(exist_ok=True)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*arguments, *where, "--max-model-len", "2048"],
            env=environment(directory),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Vllm(process, f"http://127.0.0.1:{port}")
        try:
            _wait_for(server, log)
            yield server
        finally:
            if process.poll() is None:
                server.kill()


def _wait_for(server: Vllm, log: Path) -> None:
    """Return when it answers, which nothing tells but an answer."""
    deadline = monotonic() + STARTUP_SECONDS
    with server.client() as client:
        while monotonic() < deadline:
            assert server.process.poll() is None, log.read_text()[-3000:]
            try:
                if client.get("/health").status_code == 200:
                    return
            except httpx2.TransportError:
                sleep(0.5)
    raise AssertionError(f"vLLM does not answer: {log.read_text()[-3000:]}")
