"""The embedded model, 200,000 short texts, SIGKILL three times at random: complete, right, in flat memory."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.metrics import Metrics
from hexgrid.model.pooling import finish
from tests.cli.hexgrid_process import HEXGRID, environment
from tests.jobs.killed import num_windows, running, wait_for_windows

NUM_ROWS = int(os.environ.get("BULK_ROWS", "200000"))
NUM_WINDOWS = -(-NUM_ROWS // 8192)
NUM_COMPARED = 4_000
MOST_GROWTH = 64 * 2**20
WORDS = Path(__file__).read_text().replace('"', " ").split()


def text_of(row: int) -> str:
    words = random.Random(row).choices(WORDS, k=4 + row % 9)
    return " ".join([*words, str(row)])


@contextmanager
def watched(process: "subprocess.Popen[bytes]", output: Path) -> Iterator[list[int]]:
    """Resident bytes of a job, sampled once it has noted three windows more."""
    sizes: list[int] = []
    first = num_windows(output) + 3
    over = threading.Event()

    def watch() -> None:
        state = psutil.Process(process.pid)
        while not over.wait(0.2):
            if num_windows(output) >= first:
                sizes.append(state.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


@pytest.mark.bulk
def test_a_large_job_survives_three_kills(tmp_path: Path) -> None:
    data, output = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    with data.open("w") as file:
        for row in range(NUM_ROWS):
            file.write(json.dumps({"id": f"row-{row}", "text": text_of(row)}) + "\n")
    # Without caches, which would grow up to their bounds.
    arguments = (
        *("bulk", str(data), str(output), "--dtype", "float32"),
        *("--result-cache-bytes", "0", "--prefix-cache-bytes", "0"),
    )
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    told = [f"seed {seed}"]
    for count in sorted(chance.sample(range(1, NUM_WINDOWS // 2), 3)):
        with running(*arguments) as process:
            wait_for_windows(process, output, count)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.0, 2.0))
        told.append(f"killed after {num_windows(output)} of {NUM_WINDOWS} windows")

    process = subprocess.Popen([HEXGRID, *arguments], env=environment())
    with watched(process, output) as sizes:
        assert process.wait(1500) == 0

    table = pq.read_table(output)
    assert table["id"].to_pylist() == [f"row-{row}" for row in range(NUM_ROWS)]
    assert table["error"].null_count == NUM_ROWS
    told.append(f"memory {min(sizes) >> 20} to {max(sizes) >> 20} MiB in {len(sizes)} samples")
    sys.stdout.write("; ".join(told) + "\n")
    assert max(sizes) - min(sizes) < MOST_GROWTH
    rows = sorted(chance.sample(range(NUM_ROWS), NUM_COMPARED))
    model = open_model(
        ["nano"], nano.NAME, EngineConfig(dtype="float32", result_cache_bytes=0), Metrics()
    )
    encoded = model.tokenizer.encode([text_of(row) for row in rows])
    hidden = model.engine.submit(encoded.token_ids).result()
    model.engine.close()
    found = np.array(table["embedding"].take(rows).to_pylist(), np.float32)
    right = finish(hidden, dimensions=None, normalize=True)
    np.testing.assert_allclose(found, right, atol=2e-5)
    counts = [len(ids) for ids in encoded.token_ids]
    assert table["num_tokens"].take(rows).to_pylist() == counts
