"""Asks the process that renders chat templates (child.py), and ends it when it takes too long."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from hexgrid.chat import child
from hexgrid.errors import RequestError

# For all conversations of a request together; the published templates take a tenth of a millisecond each.
SECONDS = 10.0
# Of one conversation as JSON: more characters than tokens of the longest input can stand for.
_MAX_JOB_BYTES = 2**23
_MAX_ANSWER_BYTES = 8 * child.MAX_TEXT_CHARS
_STOP_SECONDS = 5.0


class Job(NamedTuple):
    """One conversation: its template, what that can see, and whether the final message stays open."""

    template: str
    variables: dict[str, Any]
    continue_final_message: bool


class _BrokenError(Exception):
    """The process is gone, or must go; the message says why, as the end of a sentence."""


class TemplateRenderer:
    """One process, started by the first job and again after each that ends it; one caller at a time."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, jobs: Iterable[Job], check: Callable[[], None] = lambda: None) -> list[str]:
        """The text of each conversation, in order; blocking. `check` may give up between two of them.

        Raises:
            RequestError: a template fails for its conversation, or takes too much time or memory.
        """
        with self._lock:
            deadline = monotonic() + self._seconds
            texts = []
            for index, job in enumerate(jobs):
                check()
                texts.append(self._render(job, index, deadline))
            return texts

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _render(self, job: Job, index: int, deadline: float) -> str:
        encoded = msgspec.json.encode(job._asdict())
        if len(encoded) > _MAX_JOB_BYTES:
            raise RequestError(
                f"Conversation {index} and its template have {len(encoded)} bytes as JSON; at most "
                f"{_MAX_JOB_BYTES} are taken",
                param="messages",
                index=index,
            )
        try:
            answer = msgspec.json.decode(self._ask(encoded, deadline), type=dict[str, str])
        except _BrokenError as error:
            self._end()
            raise _failed(index, str(error)) from None
        if "error" in answer:
            raise _failed(index, answer["error"])
        return answer["text"]

    def _ask(self, job: bytes, deadline: float) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(job).to_bytes(4) + job)
            process.stdin.flush()
        except OSError:
            raise _BrokenError("cannot be rendered: its process is gone") from None
        source = process.stdout.fileno()
        length = int.from_bytes(self._read(source, 4, deadline))
        if length > _MAX_ANSWER_BYTES:
            raise _BrokenError("makes too long a text")
        return self._read(source, length, deadline)

    def _read(self, source: int, count: int, deadline: float) -> bytes:
        poll = select.poll()
        poll.register(source, select.POLLIN)
        data = b""
        while len(data) < count:
            if not poll.poll(max(0.0, deadline - monotonic()) * 1e3):
                raise _BrokenError(
                    f"takes longer than {self._seconds:g} seconds, the most for a request"
                )
            part = os.read(source, count - len(data))
            if not part:
                raise _BrokenError(f"needs more than {child.MEMORY_BYTES >> 20} MiB of memory")
            data += part
        return data

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(  # noqa: S603 (our own file)
                [sys.executable, "-I", child.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},  # keys are in ours
                start_new_session=True,  # Ctrl-C is for the server
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not written yet cannot be
                    assert pipe is not None
                    pipe.close()


def _failed(index: int, what: str) -> RequestError:
    return RequestError(
        f"The chat template {what} (conversation {index})", param="messages", index=index
    )
