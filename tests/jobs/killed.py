"""A bulk job in a process of its own, to be killed: how far it is, and how much memory it takes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tests.cli.hexgrid_process import DEADLINE, HEXGRID, environment


@contextmanager
def running(*arguments: str, **variables: str) -> "Iterator[subprocess.Popen[bytes]]":
    """`hexgrid` with these arguments while the block runs; killed at its end."""
    process = subprocess.Popen(
        [HEXGRID, *arguments],
        env=environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)


def num_windows(output: Path) -> int:
    """How many windows a job has noted."""
    journal = output.with_name(output.name + ".job") / "journal.jsonl"
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def wait_for_windows(process: "subprocess.Popen[bytes]", output: Path, count: int) -> None:
    """Return when the job has noted so many; fails when it ends before."""
    deadline = monotonic() + DEADLINE
    while num_windows(output) < count:
        assert process.poll() is None, "the job ended before"
        assert monotonic() < deadline, "the job does not come so far"
