"""A peer as this process sees it: token ids in, vectors and its own seconds out."""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.wire import TokenIds
from peers.environment import python_of


@dataclass(frozen=True)
class Peer:
    """How one is named in tables, and how its worker is started."""

    title: str
    environment: str  # a file in requirements/
    worker: str  # its module
    precision: str


PEERS = {
    "vllm-float32": Peer("vLLM 0.32, float32", "vllm", "peers.vllm_worker", "float32"),
    "vllm-bfloat16": Peer("vLLM 0.32, bfloat16", "vllm", "peers.vllm_worker", "bfloat16"),
    "llama.cpp-q8_0": Peer("llama.cpp (0.3.36), Q8_0", "llama", "peers.llama_worker", "Q8_0"),
}


class Answer(NamedTuple):
    """The unit vectors [B, H] of one request, and the seconds that the peer took for it."""

    vectors: Vectors
    seconds: float


class Running:
    """A peer that has loaded its checkpoint. It is stopped by signal while others take their turn."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._read()  # it says that it is ready
        self._signal(signal.SIGSTOP)

    def embed(self, token_ids: Sequence[TokenIds]) -> Answer:
        """The vectors of all inputs.

        Raises:
            SystemExit: the peer has died; what it printed says why.
        """
        self._signal(signal.SIGCONT)
        try:
            answer = self._ask([list(ids) for ids in token_ids])
        finally:
            self._signal(signal.SIGSTOP)
        vectors = np.frombuffer(base64.b64decode(answer["vectors"]), np.float32)
        return Answer(vectors.reshape(len(token_ids), -1), answer["seconds"])

    def _ask(self, inputs: list[list[int]]) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(inputs), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Libraries print what they like; the worker's own lines begin with a brace.
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit(f"{self._process.args!r} ended with code {self._process.wait()}")

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)


@contextmanager
def running(name: str, checkpoint: Path) -> Iterator[Running]:
    """One of PEERS with a checkpoint in Hugging Face layout, until the `with` block ends."""
    peer = PEERS[name]
    process = subprocess.Popen(
        [python_of(peer.environment), "-m", peer.worker, checkpoint.resolve(), peer.precision],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, for the signals
    )
    try:
        yield Running(process)
    finally:
        with suppress(ProcessLookupError):  # it has died already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
