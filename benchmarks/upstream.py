"""What it costs to compute elsewhere: requests a second and p50 of a server, and of a front of the same one.

Both are asked in turns, by one and by many callers, one text a request, each text once. Everything runs on
this machine, so the front takes its share of the processor from the server behind it. With --vllm it is vLLM
that computes; else another hexgrid with nano.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

import httpx2
import uvloop
from peers.environment import python_of
from workload import checkpoint, report

from hexgrid import nano

_HEXGRID = str(Path(sys.executable).with_name("hexgrid"))
_VLLM_PORT = 8471
_STARTUP_SECONDS = 600.0
_TEXT = "What is the capital of China? Twenty tokens are about as long as a query usually is: {}"
_numbers = itertools.count()


class Load(NamedTuple):
    """What one round of asking gave."""

    rate: float  # requests a second
    p50: float  # milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--vllm", action="store_true", help="a tiny random model on vLLM's CPU build"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.vllm:
            model = str(stack.enter_context(checkpoint(None, "tiny")))
            direct = stack.enter_context(vllm(model))
        else:
            model = nano.NAME
            direct = stack.enter_context(hexgrid(model))
        behind = ("--engine", "vllm", "--upstream", direct)
        targets = {
            "vLLM" if arguments.vllm else "hexgrid": direct,
            "behind the front": stack.enter_context(hexgrid(model, *behind)),
        }
        if arguments.vllm:
            targets["hexgrid, native"] = stack.enter_context(hexgrid(model, "--dtype", "float32"))
        found = measure(targets, arguments.rounds, arguments.seconds)
    first = next(iter(targets))
    rows = [
        {
            "server": name,
            "callers": callers,
            "requests/s": statistics.median(load.rate for load in loads),
            "p50 ms": statistics.median(load.p50 for load in loads),
            "times the first": statistics.median(
                ours.rate / theirs.rate
                for ours, theirs in zip(loads, found[first, callers], strict=True)
            ),
            "runs": " ".join(f"{load.rate:.0f}" for load in loads),
        }
        for (name, callers), loads in found.items()
    ]
    report("One text a request, all on this machine", rows, {"benchmark": "upstream"})


def measure(
    targets: dict[str, str], rounds: int, seconds: float
) -> dict[tuple[str, int], list[Load]]:
    """Turns of every server, by number of callers."""
    found: dict[tuple[str, int], list[Load]] = {}
    for url in targets.values():
        uvloop.run(ask(url, 4, 1.0))
    for callers, _ in itertools.product((1, 16), range(rounds)):
        for name, url in targets.items():
            load = uvloop.run(ask(url, callers, seconds))
            found.setdefault((name, callers), []).append(load)
    return found


async def ask(url: str, callers: int, seconds: float) -> Load:
    """Ask for `seconds`, each caller again once it is answered."""
    address = httpx2.URL(url)
    end = perf_counter() + seconds
    times: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        while (begun := perf_counter()) < end:
            body = json.dumps(
                {"input": _TEXT.format(next(_numbers)), "encoding_format": "base64"}
            ).encode()
            writer.write(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            times.append(perf_counter() - begun)
        writer.close()

    start = perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Load(len(times) / (perf_counter() - start), 1000 * statistics.median(times))


@contextmanager
def hexgrid(model: str, *arguments: str) -> Iterator[str]:
    """A server in a process of its own, which logs warnings only; its URL."""
    quiet = ("--port", "0", "--log-level", "warning")
    process = subprocess.Popen(
        [_HEXGRID, "serve", model, *quiet, *arguments], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"Listening on (http://\S+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[1]
                return
        raise SystemExit(said)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def vllm(model: str) -> Iterator[str]:
    """vLLM's CPU build on both cores; its URL."""
    stub = Path(model) / "vllm-0.32.0+cpu.dist-info"  # by which it tells its platform
    stub.mkdir()
    (stub / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environ = {"PYTHONPATH": model, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(python_of("vllm")), "-m", "vllm.entrypoints.cli.main", "serve", model]
    options = ["--runner", "pooling", "--dtype", "float32", "--max-model-len", "2048"]
    process = subprocess.Popen(
        [*command, *options, "--host", "127.0.0.1", "--port", str(_VLLM_PORT)],
        env=os.environ | environ | {"VLLM_CPU_OMP_THREADS_BIND": cores},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{_VLLM_PORT}"
    deadline = perf_counter() + _STARTUP_SECONDS
    try:
        while process.poll() is None and perf_counter() < deadline:
            try:
                httpx2.get(f"{url}/health").raise_for_status()
            except httpx2.HTTPError:
                sleep(0.5)
            else:
                yield url
                return
        raise SystemExit("vLLM does not start")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
