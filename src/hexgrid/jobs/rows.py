"""The rows of all files of a job, in order, and the place after each: where a killed job goes on.

What is wrong about a row is told by the row, so that it harms no other. What is wrong about a file (no such
column, cut off within) ends the job.
"""

import csv
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hexgrid.errors import DataError
from hexgrid.jobs.inputs import InputFile
from hexgrid.jobs.lines import MAX_LINE_BYTES, Lines, opened_lines

Id = int | str
_ROWS_AT_A_TIME = 1024
_BUFFER_BYTES = 2**20
_SHOWN_CHARS = 100
_LARGEST_INT = 2**63


class Columns(NamedTuple):
    """What a row is read from. Without `id` rows are numbered from 0, over all files."""

    text: str
    id: str | None


class Place(NamedTuple):
    """Between two rows: a file, the rows and bytes of it that lie before, and all rows that do."""

    file: int
    row: int
    offset: int
    number: int
    digest: str  # of standard input up to here


START = Place(0, 0, 0, 0, "")


class Row(NamedTuple):
    """`id` is None where it is no id; `text` is None where there is none. `problem` says why."""

    id: Id | None
    text: str | None
    problem: str | None
    file: int
    row: int  # counted from 1 within the file
    after: Place
    num_bytes: int  # of the file as it lies on the disk, up to here


def read_rows(files: Sequence[InputFile], columns: Columns, start: Place) -> Generator[Row]:
    """All rows from `start` on.

    Raises:
        DataError: a file is not of its form.
    """
    number = start.number
    for index in range(start.file, len(files)):
        place = start if index == start.file else Place(index, 0, 0, number, "")
        reader = _read_parquet if files[index].format == "parquet" else _read_lines
        for row in reader(files[index], columns, place):
            number = row.after.number
            yield row


def _read_lines(file: InputFile, columns: Columns, start: Place) -> Iterator[Row]:
    with opened_lines(file) as lines:
        records = _RECORDS[file.format](file, lines, columns, start)
        number, count = start.number, start.row
        for found in records:
            number += 1
            count += 1
            yield _row(
                found,
                columns,
                Place(start.file, count, lines.offset, number, lines.digest),
                lines.raw_offset,
            )


# What one record holds: its id and text as they stand there, and why it cannot be read at all.
_Record = tuple[Any, Any, str | None]
_MISSING = object()


def _json_records(_: InputFile, lines: Lines, columns: Columns, start: Place) -> Iterator[_Record]:
    lines.go_to(start.offset, start.digest)
    for line in lines:
        if line.isspace():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield None, None, f"the line is not JSON: {error}"
            continue
        if not isinstance(record, dict):
            yield None, None, f"the line is no JSON object but {_shown(record)}"
            continue
        own_id = None if columns.id is None else record.get(columns.id, _MISSING)
        yield own_id, record.get(columns.text, _MISSING), None


def _text_records(_: InputFile, lines: Lines, columns: Columns, start: Place) -> Iterator[_Record]:
    del columns
    lines.go_to(start.offset, start.digest)
    for line in lines:
        yield None, _decoded(line).removesuffix("\n").removesuffix("\r"), None


def _csv_records(
    file: InputFile, lines: Lines, columns: Columns, start: Place
) -> Iterator[_Record]:
    csv.field_size_limit(MAX_LINE_BYTES)
    table = csv.reader((_decoded(line) for line in lines), strict=True)
    try:
        header = next(table, [])
        header = [name.removeprefix("\ufeff") for name in header]
        text = _column(file, header, columns.text)
        own_id = None if columns.id is None else _column(file, header, columns.id)
        if start.row:
            lines.go_to(start.offset, start.digest)
        for record in table:
            if not record:
                continue
            if len(record) != len(header):
                yield (
                    record[own_id] if own_id is not None and own_id < len(record) else None,
                    None,
                    f"the row has {len(record)} fields and the header {len(header)}",
                )
                continue
            yield None if own_id is None else record[own_id], record[text], None
    except csv.Error as error:
        raise DataError(f"{file.path} is not CSV before byte {lines.offset}: {error}") from error


_RECORDS: dict[str, Callable[[InputFile, Lines, Columns, Place], Iterator[_Record]]] = {
    "jsonl": _json_records,
    "text": _text_records,
    "csv": _csv_records,
}


def _read_parquet(file: InputFile, columns: Columns, start: Place) -> Iterator[Row]:
    wanted = [columns.text, *([] if columns.id is None else [columns.id])]
    try:
        # Not pre-buffered: a row group may be larger than the memory.
        with pq.ParquetFile(file.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            for name in wanted:
                _column(file, table.schema_arrow.names, name)
            groups, skip = _groups_from(table, start.row)
            total = table.metadata.num_rows
            number, count = start.number - skip, start.row - skip
            for batch in table.iter_batches(_ROWS_AT_A_TIME, row_groups=groups, columns=wanted):
                texts = batch.column(columns.text).to_pylist()
                ids = (
                    [None] * len(texts)
                    if columns.id is None
                    else batch.column(columns.id).to_pylist()
                )
                for own_id, text in zip(ids, texts, strict=True):
                    number += 1
                    count += 1
                    if count > start.row:
                        after = Place(start.file, count, 0, number, "")
                        yield _row((own_id, text, None), columns, after, file.size * count // total)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.path} cannot be read as Parquet: {error}") from error


def _groups_from(table: Any, row: int) -> tuple[list[int], int]:
    """The row groups that hold what comes after `row` rows, and how many of their rows do not."""
    groups = list(range(table.num_row_groups))
    while groups and row >= (size := table.metadata.row_group(groups[0]).num_rows):
        row -= size
        del groups[0]
    return groups, row


def _row(record: _Record, columns: Columns, after: Place, num_bytes: int) -> Row:
    own_id, text, problem = record
    given: Id | None = None
    if columns.id is None:
        given = after.number - 1
    elif isinstance(own_id, str) or (
        type(own_id) is int and -_LARGEST_INT <= own_id < _LARGEST_INT
    ):
        given = own_id
    elif problem is None:
        problem = _no_id(own_id, columns.id)
    if type(text) is str:
        return Row(given, text, problem, after.file, after.row, after, num_bytes)
    if problem is None:
        problem = _no_text(text, columns.text)
    return Row(given, None, problem, after.file, after.row, after, num_bytes)


def _no_id(found: Any, column: str) -> str:
    if found is _MISSING or found is None:
        return f"the row has no id in {column!r}"
    return f"the id in {column!r} is neither text nor a whole number of 64 bits: {_shown(found)}"


def _no_text(found: Any, column: str) -> str:
    if found is _MISSING:
        return f"the row has no field {column!r}"
    if found is None:
        return f"{column!r} is null"
    return f"{column!r} is no text but {_shown(found)}"


def _shown(value: Any) -> str:
    """What stands there, in words; no more of it than helps."""
    match value:
        case list():
            return f"a list of {len(value)} items"
        case dict():
            return f"an object of {len(value)} fields"
        case bytes():
            return f"{len(value)} bytes"
    return str(value)[:_SHOWN_CHARS]


def _decoded(line: bytes) -> str:
    """Invalid bytes become lone surrogates, which the tokenizer refuses: an error of this row alone."""
    return line.decode(errors="surrogateescape")


def _column(file: InputFile, names: Sequence[str], wanted: str) -> int:
    if wanted not in names:
        raise DataError(
            f"{file.path} has no column {wanted!r}; it has {', '.join(map(repr, names[:50])) or 'none'}. "
            "Say which with --text-column and --id-column, or number rows with --number-rows"
        )
    return names.index(wanted)
