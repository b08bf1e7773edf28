"""The bulk job on a Ray cluster: Ray Data streams windows through a pool of engines. The only file with Ray.

The driver cuts the input into windows and keeps the journal; each engine reads the rows of its window, embeds
them and writes the part. So inputs and output must lie where every machine sees them. An engine that dies
is replaced by Ray and its windows are done again: a part is written whole, under the window's own name, so
that it does no harm if that happens twice.
"""

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import ray
import ray.data
import ray.exceptions

from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.errors import ConfigError, HexgridError, UnreachableError
from hexgrid.jobs.bulk import Finished, Noter, Report, Step, WindowWriter, first_id_type, run_steps
from hexgrid.jobs.embedding import start_embedding
from hexgrid.jobs.inputs import STDIN
from hexgrid.jobs.job import BulkJob
from hexgrid.jobs.journal import Done, Journal
from hexgrid.jobs.local import local_source
from hexgrid.jobs.parts import IdType
from hexgrid.jobs.rows import Place, read_rows
from hexgrid.jobs.source import Origin
from hexgrid.jobs.windows import Window, windows
from hexgrid.metrics import Metrics

# Ray keeps books on each block of windows; more of them spread no further.
_MOST_BLOCKS = 1_000


class Cluster(NamedTuple):
    """Where engines run, how many, and what each of them takes."""

    address: str | None  # None: Ray's own choice, else a cluster on this machine
    engines: int
    cpus: float
    gpus: float


class EngineSpec(NamedTuple):
    """What every engine opens."""

    name: str
    model: str
    config: EngineConfig


class _Cut(msgspec.Struct, frozen=True):
    """A window as it is sent to an engine."""

    number: int
    start: Place
    num_rows: int
    path: str
    id_type: IdType


class _Written(msgspec.Struct, frozen=True):
    """What an engine sends back."""

    done: Done
    num_bytes: int


class EngineWorker:
    """An engine in a process of the cluster: windows in, parts written."""

    def __init__(self, job: BulkJob, spec: EngineSpec) -> None:
        served = open_model([spec.name], spec.model, spec.config, Metrics())
        self._job = job
        self._source = local_source(served, spec.config, job.wish)
        self._writer = WindowWriter(job, self._source.origin.dimensions)
        self._threads = ThreadPoolExecutor(self._source.num_threads)

    def origin(self) -> Origin:
        """What the vectors depend on."""
        return self._source.origin

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ray Data's form of a call: columns of some windows."""
        written = [self._write(msgspec.json.decode(cut, type=_Cut)) for cut in batch["cut"]]
        return {"written": [msgspec.json.encode(each) for each in written]}

    def _write(self, cut: _Cut) -> _Written:
        with closing(read_rows(self._job.inputs, self._job.columns, cut.start)) as rows:
            found = list(islice(rows, cut.num_rows))
        window = Window(cut.number, found, found[-1].after)
        dimensions = self._source.origin.dimensions
        texts = start_embedding(window, self._source.embed, dimensions, self._threads)
        done = self._writer.write(window, texts, Path(cut.path), cut.id_type)
        return _Written(done, window.num_bytes)


def run_bulk_on_ray(
    job: BulkJob, spec: EngineSpec, cluster: Cluster, *, overwrite: bool, report: Report
) -> Finished:
    """As `run_bulk`, on `cluster`.

    Raises:
        ConfigError: the input is standard input, which no other machine sees; or as `run_bulk`.
        UnreachableError: Ray cannot be reached, or gave the work up; the job can go on later.
    """
    if any(file.path == STDIN for file in job.inputs):
        raise ConfigError("--ray reads files that all machines see, not standard input")
    with redirect_stdout(sys.stderr):  # Ray tells there of workers that died
        try:
            return _run(job, spec, cluster, overwrite=overwrite, report=report)
        finally:
            ray.shutdown()  # leaves the cluster, or ends the one that was started for this


def _run(
    job: BulkJob, spec: EngineSpec, cluster: Cluster, *, overwrite: bool, report: Report
) -> Finished:
    try:
        if not ray.is_initialized():
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        resources = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
        describer: Any = ray.remote(EngineWorker).options(**resources).remote(job, spec)
        origin = Origin(*ray.get(describer.origin.remote()))
        del describer  # its place is for an engine of the pool
        return run_steps(
            job,
            origin,
            lambda journal: _embed_rest(job, spec, cluster, journal),
            overwrite=overwrite,
            report=report,
        )
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, HexgridError):
            raise error.cause from error
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise UnreachableError(f"Ray gave up: {type(error).__name__}: {error}") from error


def _embed_rest(
    job: BulkJob, spec: EngineSpec, cluster: Cluster, journal: Journal
) -> Iterator[Step]:
    """Windows through the pool, in any order; noted in their own."""
    cuts = [msgspec.json.encode(cut) for cut in _cuts(job, journal)]
    if not cuts:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    windows_of_job = ray.data.from_items(
        [{"cut": cut} for cut in cuts], override_num_blocks=min(len(cuts), _MOST_BLOCKS)
    )
    written = windows_of_job.map_batches(
        EngineWorker,
        fn_constructor_args=(job, spec),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cluster.engines),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
    )
    noter = Noter(job, journal)
    early: dict[int, _Written] = {}
    for row in written.iter_rows():
        found = msgspec.json.decode(row["written"], type=_Written)
        early[found.done.window] = found
        while len(journal.done) in early:
            ready = early.pop(len(journal.done))
            yield noter.note(ready.done, ready.num_bytes)


def _cuts(job: BulkJob, journal: Journal) -> Iterator[_Cut]:
    """The windows that are not done."""
    start = journal.place
    id_type = journal.done[0].id_type if journal.done else None
    with closing(read_rows(job.inputs, job.columns, start)) as rows:
        for window in windows(rows, first_number=len(journal.done), most_rows=job.window_rows):
            id_type = id_type or first_id_type(job, window)
            path = str(journal.part(window.number).absolute())
            yield _Cut(window.number, start, len(window.rows), path, id_type)
            start = window.end
