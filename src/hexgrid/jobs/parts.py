"""A window's rows as a file: whole or not there, and read again when the job's output is put together.

Columns: id (null: not to be written), embedding (null: there is an error), num_tokens, error, file, row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hexgrid.encoding import Vectors
from hexgrid.jobs.embedding import Texts
from hexgrid.jobs.files import atomic
from hexgrid.jobs.rows import Id, Row
from hexgrid.jobs.windows import Window
from hexgrid.quantized import quantize

EmbedDtype = Literal["float32", "float16", "int8"]
IdType = Literal["int", "string"]
_NUMPY: dict[EmbedDtype, Any] = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
_ARROW = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
_IDS = {"int": pa.int64(), "string": pa.string()}


def output_schema(id_type: IdType, dtype: EmbedDtype, dimensions: int) -> pa.Schema:
    """What is written of a row."""
    return pa.schema(
        [
            pa.field("id", _IDS[id_type]),
            pa.field("embedding", pa.list_(_ARROW[dtype], dimensions)),
            pa.field("num_tokens", pa.int32()),
            pa.field("error", pa.string()),
        ]
    )


def id_type_of(rows: Sequence[Row]) -> IdType:
    """How ids are written: as numbers if those of the first rows all are."""
    found = [row.id for row in rows if row.id is not None]
    return "int" if found and all(isinstance(each, int) for each in found) else "string"


def part_of(window: Window, texts: Texts, schema: pa.Schema, dtype: EmbedDtype) -> pa.Table:
    """The rows of `window` with the vectors of `texts`, which are done."""
    num_rows = len(window.rows)
    source = np.full(num_rows, -1, dtype=np.int64)  # which text's vector
    tokens: list[int | None] = [None] * num_rows
    problems = [row.problem for row in window.rows]
    for index, places in enumerate(texts.places):
        for place in places:
            problems[place] = texts.problems[index]
            tokens[place] = texts.num_tokens[index]
            if texts.problems[index] is None:
                source[place] = index
    ids = _typed_ids(window.rows, problems, schema.field("id").type)
    source[[place for place, problem in enumerate(problems) if problem is not None]] = -1
    columns = [
        pa.array(ids, schema.field("id").type),
        _embeddings(texts.vectors, source, schema.field("embedding").type, dtype),
        pa.array(tokens, pa.int32()),
        pa.array(problems, pa.string()),
        pa.array([row.file for row in window.rows], pa.int32()),
        pa.array([row.row for row in window.rows], pa.int64()),
    ]
    return pa.Table.from_arrays(
        columns,
        schema=schema.append(pa.field("file", pa.int32())).append(pa.field("row", pa.int64())),
    )


def write_part(table: pa.Table, path: Path) -> None:
    """Write `table`, so that after a crash the file is whole or not there."""
    # Arrow's own form: what is in memory is what is written, and it is read without a copy.
    with atomic(path) as unfinished, pa.ipc.new_file(unfinished, table.schema) as file:
        file.write_table(table)


def read_part(path: Path) -> pa.Table:
    """What `write_part` wrote, mapped."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as file:
        return file.read_all()


def quantized(vectors: Vectors, dtype: EmbedDtype) -> NDArray[Any]:
    """Vectors [B, D] in `dtype`; in 8 bits as hexgrid.quantized has them."""
    return quantize(vectors, dtype) if dtype == "int8" else vectors.astype(_NUMPY[dtype])


def _typed_ids(
    rows: Sequence[Row], problems: list[str | None], kind: pa.DataType
) -> list[Id | None]:
    """Ids as they are written; None, and a problem, where ids are numbers and one is not."""
    if kind == pa.string():
        return [None if row.id is None else str(row.id) for row in rows]
    ids: list[Id | None] = []
    for place, row in enumerate(rows):
        is_text = isinstance(row.id, str)
        if is_text:
            problems[place] = (
                f"the id {str(row.id)[:100]!r} is text, and the first ids are numbers; give --id-type string"
            )
        ids.append(None if is_text else row.id)
    return ids


def _embeddings(
    vectors: Vectors, source: NDArray[np.int64], kind: pa.FixedSizeListType, dtype: EmbedDtype
) -> pa.Array:
    """Row by row the vector `source` names; null where that is negative."""
    rows = np.zeros((len(source), kind.list_size), dtype=_NUMPY[dtype])
    is_there = source >= 0
    rows[is_there] = quantized(vectors, dtype)[source[is_there]]
    flat = pa.array(rows.reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(~is_there))
