"""hexgrid bulk --ray on a real cluster of this machine: the same output, also when an engine is killed."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.model.pooling import finish
from tests.cli.hexgrid_process import HEXGRID, environment, hexgrid
from tests.jobs.killed import num_windows, running, wait_for_windows

pytestmark = pytest.mark.ray

NUM_ROWS = 3_000
# A cluster starts, and loads two models, on whatever machine this is.
PATIENCE = 600.0
NUM_WINDOWS = 60


@pytest.fixture
def texts() -> list[str]:
    return [f"number {n} " + "of many " * (n % 7) for n in range(NUM_ROWS)]


@pytest.fixture
def arguments(tmp_path: Path, tiny_checkpoint: Path, texts: list[str]) -> list[str]:
    lines = [json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    return [
        *("bulk", str(tmp_path / "in.jsonl"), str(tmp_path / "out.parquet")),
        *("--model", str(tiny_checkpoint), "--dtype", "float32", "--num-threads", "1"),
        *("--window-rows", str(NUM_ROWS // NUM_WINDOWS)),
    ]


@pytest.fixture
def expected(tiny_model: ServedModel, texts: list[str]) -> Any:
    ids = tiny_model.tokenizer.encode(texts).token_ids
    return finish(tiny_model.engine.submit(ids).result(), dimensions=None, normalize=True)


def check(output: Path, expected: Any) -> None:
    table = pq.read_table(output)
    assert table["id"].to_pylist() == list(range(NUM_ROWS))
    assert table["error"].null_count == NUM_ROWS
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    assert not output.with_name("out.parquet.job").exists()


def engines(process: "subprocess.Popen[str]") -> Iterator[psutil.Process]:
    """The pool's processes that work on a window now: Ray names a worker by what it runs."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "MapWorker" in " ".join(child.cmdline()):
                yield child
        except psutil.NoSuchProcess:
            continue


def kill_one_engine(process: "subprocess.Popen[str]", output: Path) -> int | None:
    """The engine that was killed while the job ran; None where it ended before."""
    deadline = monotonic() + PATIENCE
    while process.poll() is None:
        assert monotonic() < deadline
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        if 2 <= num_windows(output) < NUM_WINDOWS // 2:
            for engine in engines(process):
                engine.kill()
                return int(engine.pid)
    return None


def test_an_engine_that_is_killed_costs_nothing(
    arguments: list[str], tmp_path: Path, expected: Any
) -> None:
    output = tmp_path / "out.parquet"
    with subprocess.Popen(
        [HEXGRID, *arguments, "--ray", "--ray-engines", "2", "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            killed = kill_one_engine(process, output)
            stdout, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert killed, stderr
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["num_vectors"] == NUM_ROWS
    check(output, expected)


def test_a_job_that_was_begun_here_goes_on_there(
    arguments: list[str], tmp_path: Path, expected: Any
) -> None:
    output = tmp_path / "out.parquet"
    with running(*arguments) as process:
        wait_for_windows(process, output, 5)

    done = subprocess.run(
        [HEXGRID, *arguments, "--ray"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Going on after" in done.stderr
    check(output, expected)


def test_what_does_not_go_with_a_cluster_is_told(arguments: list[str], tmp_path: Path) -> None:
    both = hexgrid(*arguments[:3], "--ray", "--url", "http://127.0.0.1:9")
    stdin = hexgrid("bulk", "-", str(tmp_path / "out.parquet"), "--ray")

    assert "two places to embed" in both.stderr
    assert "not standard input" in stdin.stderr
