"""A job's parts -> its output: one file in the order of the input, and one of what could not be embedded.

Each id is in the output once: rows with an error have a null vector there, and what has no id, or one that
came before, is in the file of errors only.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hexgrid.jobs.files import atomic, remove_unfinished
from hexgrid.jobs.journal import Journal
from hexgrid.jobs.parts import read_part
from hexgrid.jobs.rows import Id

OutputFormat = Literal["parquet", "jsonl", "npy"]
DuplicateIds = Literal["error", "keep"]
METADATA_KEY = b"hexgrid"
_ADDED_TO_NAME = {"errors": ".errors.jsonl", "metadata": ".meta.json", "rows": ".rows.jsonl"}

Write = Callable[[pa.Table], None]


class Output(NamedTuple):
    """What is written, where, and what is said of it."""

    path: Path
    format: OutputFormat
    schema: pa.Schema
    metadata: dict[str, Any]
    files: list[str]  # the inputs, as rows name them by number
    duplicate_ids: DuplicateIds

    def beside(self, what: str) -> Path:
        """A file that belongs to the output."""
        return self.path.with_name(self.path.name + _ADDED_TO_NAME[what])


class Written(NamedTuple):
    """How many rows have a vector, and how many an error."""

    num_vectors: int
    num_errors: int


def write_output(output: Output, journal: Journal) -> Written:
    """Put the parts of all windows together; may be done again after a crash."""
    writer = {"parquet": _parquet, "jsonl": _jsonl, "npy": _npy}[output.format]
    for path in (output.path, *map(output.beside, _ADDED_TO_NAME)):
        remove_unfinished(path)
    num_vectors = num_errors = 0
    with (
        atomic(output.beside("errors")) as errors_path,
        errors_path.open("wb") as errors,
        closing(_Ids(journal.directory / "ids.sqlite3", output.duplicate_ids)) as ids,
        writer(output) as write,
    ):
        for done in journal.done:
            part = read_part(journal.part(done.window))
            part, is_written = ids.marked(part)
            num_errors += _write_errors(part, errors, output.files)
            rows = part.select(output.schema.names)
            if not pc.all(is_written).as_py():  # a copy
                rows = rows.filter(is_written)
            num_vectors += len(rows) - rows["embedding"].null_count
            write(rows)
            del part, rows
            pa.default_memory_pool().release_unused()  # it would keep what several parts took
    if num_errors == 0:
        output.beside("errors").unlink()
    return Written(num_vectors, num_errors)


class _Ids:
    """All ids so far, on the disk: there may be more than the memory holds."""

    def __init__(self, path: Path, duplicates: DuplicateIds) -> None:
        self._is_checked = duplicates == "error"
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # made anew after a crash
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE ids (id ANY PRIMARY KEY) STRICT, WITHOUT ROWID")

    def close(self) -> None:
        self._database.close()

    def marked(self, part: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
        """`part`, with an error where an id came before, and which of its rows are to be written."""
        if not self._is_checked:
            return part, pc.is_valid(part["id"])
        ids = part["id"].to_pylist()
        self._database.execute("BEGIN")
        is_new = [each is not None and self._add(each) for each in ids]
        self._database.execute("COMMIT")
        again = {place for place, each in enumerate(ids) if each is not None and not is_new[place]}
        if again:
            errors = [
                f"the id {str(ids[place])[:100]!r} came before" if place in again else error
                for place, error in enumerate(part["error"].to_pylist())
            ]
            index = part.schema.get_field_index("error")
            part = part.set_column(index, "error", pa.array(errors, pa.string()))
        return part, pa.chunked_array([is_new], pa.bool_())

    def _add(self, each: Id) -> bool:
        """Whether this id is new."""
        return self._database.execute("INSERT OR IGNORE INTO ids VALUES (?)", (each,)).rowcount == 1


def _write_errors(part: pa.Table, errors: IO[bytes], files: list[str]) -> int:
    """A line for each row with an error: its id, what is wrong, and where it stands."""
    found = part.filter(pc.is_valid(part["error"])).select(["id", "error", "file", "row"])
    for line in found.to_pylist():
        errors.write(orjson.dumps(line | {"file": files[line["file"]]}) + b"\n")
    return len(found)


@contextmanager
def _parquet(output: Output) -> Iterator[Write]:
    schema = output.schema.with_metadata({METADATA_KEY: orjson.dumps(output.metadata)})
    with (
        atomic(output.path) as path,
        # Vectors are as good as random: neither a dictionary nor compression finds anything in them.
        pq.ParquetWriter(
            path,
            schema,
            compression={"id": "zstd", "error": "zstd", "num_tokens": "zstd"},
            use_dictionary=False,
            write_statistics=["id"],
            data_page_size=2**18,  # a larger one takes several times its size while it is made
        ) as writer,
    ):
        yield lambda rows: writer.write_table(rows.cast(schema)) if len(rows) else None


@contextmanager
def _jsonl(output: Output) -> Iterator[Write]:
    with atomic(output.path) as path, path.open("wb") as file:

        def write(rows: pa.Table) -> None:
            vectors = _vectors(rows)
            for place, row in enumerate(rows.drop_columns("embedding").to_pylist()):
                vector = None if row["error"] is not None else vectors[place]
                line = {"id": row["id"], "embedding": vector} | row
                file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

        yield write
    _write_metadata(output)


@contextmanager
def _npy(output: Output) -> Iterator[Write]:
    """Vectors [N, D] alone, and a file with a line for each: rows with an error are in neither."""
    kind = output.schema.field("embedding").type
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    num_rows = 0
    with (
        atomic(output.beside("rows")) as rows_path,
        atomic(output.path) as path,
        rows_path.open("wb") as lines,
        path.open("wb") as file,
    ):

        def header() -> None:
            """numpy leaves room for a longer number of rows."""
            np.lib.format.write_array_header_1_0(
                file,
                {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (num_rows, kind.list_size),
                },
            )

        def write(rows: pa.Table) -> None:
            nonlocal num_rows
            good = rows.filter(pc.is_null(rows["error"]))
            num_rows += len(good)
            file.write(_vectors(good).tobytes())
            for row in good.select(["id", "num_tokens"]).to_pylist():
                lines.write(orjson.dumps(row) + b"\n")

        header()
        yield write
        file.seek(0)
        header()
    _write_metadata(output)


def _vectors(rows: pa.Table) -> Any:
    """[B, D]; zeros where there is none."""
    column = rows["embedding"].combine_chunks()
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)
    flat = column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size)
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), kind.list_size)


def _write_metadata(output: Output) -> None:
    with atomic(output.beside("metadata")) as path:
        path.write_bytes(orjson.dumps(output.metadata, option=orjson.OPT_INDENT_2) + b"\n")
