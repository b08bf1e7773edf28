"""`hexgrid bulk` against the engine alone: tokens a second on the same texts, taking turns.

The engine gets token ids that were made before, window by window as the job cuts and sorts them, and nothing
else is done. The job reads JSON lines, tokenizes, sorts, writes and syncs parts, and puts a Parquet file
together; all of that counts. Both use one loaded model of one process, without its caches of results.
"""

import argparse
import json
import statistics
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from time import perf_counter

from workload import english_texts, report

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.jobs.bulk import run_bulk
from hexgrid.jobs.inputs import find_inputs
from hexgrid.jobs.job import BulkJob
from hexgrid.jobs.local import local_source
from hexgrid.jobs.rows import Columns
from hexgrid.metrics import Metrics
from hexgrid.wire import TokenIds

_WINDOW, _CHUNK = 8192, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=nano.NAME)
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--mean", type=float, default=14.0, help="tokens of a text")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    config = EngineConfig(result_cache_bytes=0)
    model = open_model(["m"], arguments.model, config, Metrics())
    texts = english_texts(model.tokenizer, arguments.texts, mean=arguments.mean, low=4, high=64)
    ids = model.tokenizer.encode(texts).token_ids
    alone, jobs = [], []
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "in.jsonl"
        with data.open("w") as file:
            for row, text in enumerate(texts):
                file.write(json.dumps({"id": row, "text": text}) + "\n")
        for turn in range(arguments.turns):
            alone.append(_engine_alone(model, ids))
            output = Path(directory) / f"out-{turn}.parquet"
            jobs.append(_bulk(model, config, data, output))
    model.engine.close()
    rows = [
        {"": "the engine alone", "tokens/s": statistics.median(alone)},
        {"": "hexgrid bulk", "tokens/s": statistics.median(jobs)},
    ]
    share = statistics.median(job / engine for engine, job in zip(alone, jobs, strict=True))
    title = f"{arguments.model}, {arguments.texts} texts of about {arguments.mean:g} tokens"
    report(title, rows, {"share": share, "alone": alone, "jobs": jobs})


def _engine_alone(model: ServedModel, ids: list[TokenIds]) -> float:
    """Tokens a second for all of `ids`, with two windows in the queue; equal ones of a window once."""
    started = perf_counter()
    num_tokens = 0
    waiting: deque[list[Future[Vectors]]] = deque()
    for window in _windows(ids):
        num_tokens += sum(map(len, window))
        chunks = (window[start : start + _CHUNK] for start in range(0, len(window), _CHUNK))
        waiting.append([model.engine.submit(chunk) for chunk in chunks])
        if len(waiting) > 2:
            _wait(waiting.popleft())
    while waiting:
        _wait(waiting.popleft())
    return num_tokens / (perf_counter() - started)


def _windows(ids: list[TokenIds]) -> Iterator[list[TokenIds]]:
    for start in range(0, len(ids), _WINDOW):
        different = {tuple(each): each for each in ids[start : start + _WINDOW]}
        yield sorted(different.values(), key=len, reverse=True)


def _wait(futures: list[Future[Vectors]]) -> None:
    for future in futures:
        future.result()


def _bulk(model: ServedModel, config: EngineConfig, data: Path, output: Path) -> float:
    """Tokens a second of a whole job."""
    job = BulkJob(
        inputs=find_inputs([str(data)], None),
        columns=Columns("text", "id"),
        output=output,
        output_format="parquet",
        window_rows=_WINDOW,
    )
    done = run_bulk(job, local_source(model, config, job.wish))
    return done.num_tokens / done.seconds


if __name__ == "__main__":
    main()
