"""Rows of every format, and going on at any place."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hexgrid.errors import DataError
from hexgrid.jobs.inputs import InputFile, find_inputs
from hexgrid.jobs.rows import START, Columns, Row, read_rows

COLUMNS = Columns("text", "id")
TEXTS = ["one", 'two,\nin "two" lines', "", "drei \N{LATIN SMALL LETTER U WITH DIAERESIS}", "five"]


def _jsonl() -> bytes:
    lines = [json.dumps({"id": f"r{i}", "text": text}) for i, text in enumerate(TEXTS)]
    return ("\n\n".join(lines) + "\n").encode()


def _csv() -> bytes:
    quoted = [text.replace('"', '""') for text in TEXTS]
    return (
        "\ufefftext,id\n" + "".join(f'"{text}",r{i}\n' for i, text in enumerate(quoted))
    ).encode()


def _parquet(path: Path) -> None:
    table = pa.table({"id": [f"r{i}" for i in range(len(TEXTS))], "text": TEXTS, "more": [0] * 5})
    pq.write_table(table, path, row_group_size=2)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.jsonl": lambda path: path.write_bytes(_jsonl()),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(_jsonl())),
    "rows.csv": lambda path: path.write_bytes(_csv()),
    "rows.csv.xz": lambda path: path.write_bytes(lzma.compress(_csv())),
    "rows.parquet": _parquet,
}


def read(path: Path, columns: Columns = COLUMNS) -> list[Row]:
    return list(read_rows(find_inputs([str(path)], None), columns, START))


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)

    rows = read(tmp_path / name)

    assert [row.text for row in rows] == TEXTS
    assert [row.id for row in rows] == ["r0", "r1", "r2", "r3", "r4"]
    assert [row.row for row in rows] == [1, 2, 3, 4, 5]
    assert all(row.problem is None for row in rows)


@pytest.mark.parametrize("name", WRITERS)
def test_reading_goes_on_after_any_row_of_any_file(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        WRITERS[name](tmp_path / folder / name)
    files = find_inputs([str(tmp_path)], None)
    rows = list(read_rows(files, COLUMNS, START))

    assert len(rows) == 2 * len(TEXTS)
    for count, row in enumerate(rows, 1):
        assert row.after.number == count
        assert list(read_rows(files, COLUMNS, row.after)) == rows[count:]


def test_lines_of_text_are_numbered_over_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\nthree")
    (tmp_path / "b.txt").write_bytes(b"four\n")

    rows = read(tmp_path, Columns("text", None))

    assert [(row.id, row.text) for row in rows] == [(0, "one"), (1, ""), (2, "three"), (3, "four")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "the line is not JSON"),
        ("[1, 2]", "no JSON object but a list of 2 items"),
        ('{"id": 1}', "has no field 'text'"),
        ('{"id": 1, "text": null}', "'text' is null"),
        ('{"id": 1, "text": {"a": 1}}', "'text' is no text but an object of 1 fields"),
        ('{"text": "x"}', "has no id in 'id'"),
        ('{"id": true, "text": "x"}', "neither text nor a whole number"),
        ('{"id": 9223372036854775808, "text": "x"}', "neither text nor a whole number"),
    ],
)
def test_a_bad_line_is_a_problem_of_its_own(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{line}\n{{"id": 2, "text": "good"}}\n')

    bad, good = read(tmp_path / "a.jsonl")

    assert problem in (bad.problem or "")
    assert (good.id, good.text, good.problem) == (2, "good", None)


def test_a_csv_row_of_too_few_fields_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1\n2,good\n")

    bad, good = read(tmp_path / "a.csv")

    assert bad.problem == "the row has 1 fields and the header 2"
    assert (bad.id, good.text) == ("1", "good")


def test_text_of_another_type_in_parquet_is_a_problem_of_each_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, None], "text": [b"raw", b"raw"]}), tmp_path / "a.parquet")

    first, second = read(tmp_path / "a.parquet")

    assert (first.id, first.problem) == (1, "'text' is no text but 3 bytes")
    assert second.id is None


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_missing_column_ends_the_job_with_those_that_are_there(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)

    with pytest.raises(DataError, match=r"no column 'body'; it has .*'text'.*--text-column"):
        read(tmp_path / name, Columns("body", "id"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 no"),
        ("a.jsonl.gz", gzip.compress(_jsonl(), mtime=0)[:30]),
        ("a.csv", b'id,text\n1,"never closed\n'),
    ],
)
def test_a_broken_file_ends_the_job_by_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hexgrid.jobs.lines.MAX_LINE_BYTES", 100)
    (tmp_path / "a.jsonl").write_bytes(b"x" * 200)

    with pytest.raises(DataError, match="a line of more than 100 bytes at byte 0"):
        read(tmp_path / "a.jsonl")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = InputFile(str(tmp_path / "gone.jsonl"), "jsonl", 0, 0)

    with pytest.raises(DataError, match=r"gone.jsonl cannot be opened"):
        list(read_rows([gone], COLUMNS, START))
