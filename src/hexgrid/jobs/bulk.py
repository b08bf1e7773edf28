"""The bulk job: rows in, windows embedded one while the next is read, parts noted, one output at the end.

    read_rows -> windows -> start_embedding -> part_of -> write_part -> Journal.note     window after window
    write_output                                                                        when all are done

Two windows are in the engine's or the server's hands at a time, so that neither waits while one is written.
Memory is that of a few windows, whatever the size of the input.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from hexgrid.errors import ConfigError, DataError
from hexgrid.jobs.embedding import Texts, start_embedding
from hexgrid.jobs.inputs import InputFile
from hexgrid.jobs.job import BulkJob
from hexgrid.jobs.journal import Done, Journal, opened_journal
from hexgrid.jobs.outputs import Output, Written, write_output
from hexgrid.jobs.parts import IdType, id_type_of, output_schema, part_of, write_part
from hexgrid.jobs.rows import read_rows
from hexgrid.jobs.source import Origin, Source
from hexgrid.jobs.windows import Window, windows

_WINDOWS_IN_FLIGHT = 2


class Step(NamedTuple):
    """What a job is further by; what earlier processes did is told first, and apart."""

    num_rows: int
    num_bytes: int  # of the inputs, in all
    num_tokens: int
    is_of_before: bool


Report = Callable[[Step], None]


class Finished(NamedTuple):
    """What a job came to; tokens and seconds are those of this process."""

    num_vectors: int
    num_errors: int
    num_tokens: int
    seconds: float


def run_bulk(
    job: BulkJob,
    source: Source,
    *,
    overwrite: bool = False,
    report: Report = lambda _: None,
) -> Finished:
    """Do what is left of `job`, and put its output together.

    Raises:
        ConfigError: it was begun in another way, its output is there already, or it cannot be written.
        DataError: an input is not of its form.
        HexgridError: the source of vectors fails for more than a text; the job can go on later.
    """
    return run_steps(
        job,
        source.origin,
        lambda journal: _embed_rest(job, source, journal),
        overwrite=overwrite,
        report=report,
    )


def run_steps(
    job: BulkJob,
    origin: Origin,
    steps: Callable[[Journal], Iterator[Step]],
    *,
    overwrite: bool,
    report: Report,
) -> Finished:
    """The same with whatever embeds and notes the windows that are not done."""
    refuse_finished(job, overwrite=overwrite)
    with opened_journal(job.directory, job.beginning(origin), anew=overwrite) as journal:
        started = perf_counter()
        num_tokens = 0
        report(_before(job, journal))
        for step in steps(journal):
            num_tokens += step.num_tokens
            report(step)
        written = _finish(job, origin, journal)
        seconds = perf_counter() - started
        return Finished(written.num_vectors, written.num_errors, num_tokens, seconds)


def refuse_finished(job: BulkJob, *, overwrite: bool) -> None:
    """Raises ConfigError where the output is there, and no job that it belongs to."""
    if job.output.is_dir():
        raise ConfigError(f"{job.output} is a folder; name a file")
    if not job.output.parent.is_dir():
        raise ConfigError(f"The folder of {job.output} is not there")
    if job.output.exists() and not job.directory.exists() and not overwrite:
        raise ConfigError(f"{job.output} is there already; name another file, or give --overwrite")


def _embed_rest(job: BulkJob, source: Source, journal: Journal) -> Iterator[Step]:
    """Embed and note the windows that are not done, in their order."""
    writer, noter = WindowWriter(job, source.origin.dimensions), Noter(job, journal)
    waiting: deque[tuple[Window, Texts]] = deque()

    def write_first() -> Step:
        window, texts = waiting.popleft()
        id_type = journal.done[0].id_type if journal.done else first_id_type(job, window)
        done = writer.write(window, texts, journal.part(window.number), id_type)
        return noter.note(done, window.num_bytes)

    with (
        closing(read_rows(job.inputs, job.columns, journal.place)) as rows,
        _threads(source.num_threads, waiting) as threads,
    ):
        first = len(journal.done)
        for window in windows(rows, first_number=first, most_rows=job.window_rows):
            texts = start_embedding(window, source.embed, source.origin.dimensions, threads)
            waiting.append((window, texts))
            if len(waiting) > _WINDOWS_IN_FLIGHT:
                yield write_first()
        while waiting:
            yield write_first()


def _finish(job: BulkJob, origin: Origin, journal: Journal) -> Written:
    """Put the output together and leave nothing else behind."""
    if not journal.done:
        raise DataError("The input has no rows")
    id_type = journal.done[0].id_type
    output = Output(
        job.output,
        job.output_format,
        output_schema(id_type, job.embed_dtype, origin.dimensions),
        job.metadata(origin),
        [file.path for file in job.inputs],
        job.duplicate_ids,
    )
    written = write_output(output, journal)
    journal.remove()
    return written


class WindowWriter:
    """Writes windows of one job, in any order, as their vectors are there."""

    def __init__(self, job: BulkJob, dimensions: int) -> None:
        self._job = job
        self._dimensions = dimensions

    def write(self, window: Window, texts: Texts, path: Path, id_type: IdType) -> Done:
        """Wait for the vectors and put them into `path`; what the journal is then to be told."""
        texts.wait()
        dtype = self._job.embed_dtype
        schema = output_schema(id_type, dtype, self._dimensions)
        table = part_of(window, texts, schema, dtype)
        write_part(table, path)
        return Done(
            window=window.number,
            end=window.end,
            id_type=id_type,
            num_rows=len(table),
            num_errors=len(table) - table["error"].null_count,
            num_tokens=texts.total_tokens,
        )


class Noter:
    """Notes windows that are written, in their order, and tells how far the job is."""

    def __init__(self, job: BulkJob, journal: Journal) -> None:
        self._journal = journal
        self._sizes_before = _sizes_before(job.inputs)

    def note(self, done: Done, num_bytes: int) -> Step:
        """`num_bytes` of the last file lie before the window's end."""
        self._journal.note(done)
        num_bytes += self._sizes_before[done.end.file]
        return Step(done.num_rows, num_bytes, done.num_tokens, is_of_before=False)


def first_id_type(job: BulkJob, window: Window) -> IdType:
    """How the job's ids are written, by its first window.

    Raises:
        DataError: not one of its rows has an id.
    """
    if all(row.id is None for row in window.rows):
        raise DataError(
            f"None of the first {len(window.rows)} rows has an id: {window.rows[0].problem}. Say where it is "
            "with --id-column, or number rows with --number-rows"
        )
    return job.id_type or id_type_of(window.rows)


def _before(job: BulkJob, journal: Journal) -> Step:
    """What earlier processes did."""
    num_rows = sum(done.num_rows for done in journal.done)
    place = journal.place
    num_bytes = _sizes_before(job.inputs)[place.file] + place.offset
    return Step(num_rows, num_bytes, sum(d.num_tokens for d in journal.done), is_of_before=True)


def _sizes_before(inputs: list[InputFile]) -> list[int]:
    """For each input the bytes of all that come before."""
    sizes = [0]
    for file in inputs:
        sizes.append(sizes[-1] + file.size)
    return sizes


@contextmanager
def _threads(count: int, waiting: "deque[tuple[Window, Texts]]") -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left by an error."""
    with ThreadPoolExecutor(count, thread_name_prefix="hexgrid-bulk") as threads:
        try:
            yield threads
        finally:
            for _, texts in waiting:
                texts.cancel()
