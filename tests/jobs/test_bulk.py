"""Whole jobs with a real model: what is written, and going on where one ended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hexgrid.config import EngineConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, DataError
from hexgrid.jobs.bulk import Finished, Step, run_bulk
from hexgrid.jobs.inputs import find_inputs
from hexgrid.jobs.job import BulkJob
from hexgrid.jobs.local import local_source
from hexgrid.jobs.rows import Columns
from hexgrid.jobs.source import Wish
from hexgrid.model.pooling import finish

CONFIG = EngineConfig(dtype="float32")


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "text": f"text {i % 70} " + "and more " * (i % 9)} for i in range(count)
    ]


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def new_job(data: Path, output: Path, **changes: Any) -> BulkJob:
    fields: dict[str, Any] = {
        "inputs": find_inputs([str(data)], None),
        "columns": Columns("text", "id"),
        "output": output,
        "output_format": "parquet",
        "window_rows": 50,
    }
    return BulkJob(**fields | changes)


def run(job: BulkJob, model: ServedModel, **options: Any) -> Finished:
    return run_bulk(job, local_source(model, CONFIG, job.wish), **options)


def dying_after(num_windows: int) -> Callable[[Step], None]:
    """Ends the job like a kill, once so many windows have been noted."""
    left = num_windows

    def report(step: Step) -> None:
        nonlocal left
        if not step.is_of_before:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    return report


def expected(model: ServedModel, texts: list[str], dimensions: int | None = None) -> Any:
    encoded = model.tokenizer.encode(texts)
    hidden = model.engine.submit(encoded.token_ids).result()
    return finish(hidden, dimensions=dimensions, normalize=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", rows_of(230))


def test_the_output_has_each_row_in_order_with_the_engines_vector(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    done = run(new_job(data, tmp_path / "out.parquet", wish=Wish(dimensions=16)), tiny_model)

    table = pq.read_table(tmp_path / "out.parquet")
    rows = rows_of(230)
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    texts = [row["text"] for row in rows]
    np.testing.assert_allclose(vectors, expected(tiny_model, texts, 16), atol=2e-6)
    ids = tiny_model.tokenizer.encode(texts).token_ids
    assert table["num_tokens"].to_pylist() == [len(each) for each in ids]
    assert table["error"].null_count == 230
    assert (done.num_vectors, done.num_errors) == (230, 0)
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[16]"
    metadata = json.loads(table.schema.metadata[b"hexgrid"])
    assert (metadata["model"], metadata["dimensions"], metadata["prompt"]) == ("tiny", 16, "")
    assert len(metadata["fingerprint"]) == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.parquet"]


@pytest.mark.parametrize("num_windows", [1, 2, 3, 4, 5])
def test_a_job_that_was_ended_goes_on_with_each_id_once(
    tiny_model: ServedModel, data: Path, tmp_path: Path, num_windows: int
) -> None:
    job = new_job(data, tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        run(job, tiny_model, report=dying_after(num_windows))
    assert not job.output.exists()
    # What a killed process leaves: half a line, and a part that has none.
    with (job.directory / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"window":')
    (job.directory / f"part-{num_windows:08}.arrow").write_bytes(b"half")
    steps: list[Step] = []

    run(job, tiny_model, report=steps.append)

    assert steps[0].is_of_before
    assert steps[0].num_rows == min(50 * num_windows, 230)
    assert len(steps) == 1 + 5 - num_windows
    table = pq.read_table(job.output)
    assert table["id"].to_pylist() == [row["id"] for row in rows_of(230)]
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    texts = [row["text"] for row in rows_of(230)]
    np.testing.assert_allclose(vectors, expected(tiny_model, texts), atol=2e-6)
    assert not job.directory.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"wish": Wish(dimensions=8)}, "--dimensions was not given and is 8"),
        ({"embed_dtype": "int8"}, "--embed-dtype was float32 and is int8"),
        ({"columns": Columns("id", "id")}, "--text-column was text and is id"),
        ({"wish": Wish(input_type="query")}, "--input-type was not given and is query"),
        ({"window_rows": 20}, "--window-rows was 50 and is 20"),
    ],
)
def test_changed_options_are_told_and_refused(
    tiny_model: ServedModel, data: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model, report=dying_after(1))

    with pytest.raises(ConfigError, match=f"{told}.*--overwrite"):
        run(new_job(data, tmp_path / "out.parquet", **changes), tiny_model)


def test_a_changed_input_is_told_and_refused(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model, report=dying_after(1))
    write_rows(data, rows_of(231))

    with pytest.raises(ConfigError, match=r"input .*in.jsonl was \d+ bytes.* and is \d+ bytes"):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model)


def test_another_model_is_told_and_refused(
    tiny_model: ServedModel, data: Path, tmp_path: Path, new_checkpoint: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model, report=dying_after(1))
    job = new_job(data, tmp_path / "out.parquet")
    source = local_source(tiny_model, CONFIG, job.wish)
    other = source._replace(origin=source.origin._replace(fingerprint="0" * 32))

    with pytest.raises(ConfigError, match=f"the fingerprint of the model was .* and is {'0' * 32}"):
        run_bulk(job, other)


def test_overwrite_begins_anew(tiny_model: ServedModel, data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model, report=dying_after(4))
    write_rows(data, rows_of(60))
    job = new_job(data, tmp_path / "out.parquet")

    assert run(job, tiny_model, overwrite=True).num_vectors == 60
    with pytest.raises(ConfigError, match="is there already"):
        run(job, tiny_model)
    assert run(job, tiny_model, overwrite=True).num_vectors == 60


def test_two_processes_cannot_work_on_one_job(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    job = new_job(data, tmp_path / "out.parquet")

    def meanwhile(_: Step) -> None:
        with pytest.raises(ConfigError, match="Another process works on the job"):
            run(job, tiny_model)

    run(job, tiny_model, report=meanwhile)


def test_bad_rows_have_an_error_and_the_others_a_vector(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    most = tiny_model.max_model_len
    rows = [
        {"id": 1, "text": "good"},
        {"id": 2, "text": "word " * (most + 5)},
        {"id": 3, "text": None},
        {"text": "no id"},
        {"id": 1, "text": "again"},
        {"id": "four", "text": "text for an id"},
        {"id": 5, "text": "good"},
    ]
    data = write_rows(tmp_path / "in.jsonl", rows)
    job = new_job(data, tmp_path / "out.parquet", window_rows=3)

    done = run(job, tiny_model)

    table = pq.read_table(job.output)
    assert table["id"].to_pylist() == [1, 2, 3, 5]
    assert [each is None for each in table["embedding"].to_pylist()] == [False, True, True, False]
    errors = json_lines(tmp_path / "out.parquet.errors.jsonl")
    assert [(error["row"], error["id"]) for error in errors] == [
        (2, 2),
        (3, 3),
        (4, None),
        (5, 1),
        (6, None),
    ]
    words = ["maximum context length", "is null", "no id", "came before", "--id-type string"]
    for error, word in zip(errors, words, strict=True):
        assert word in error["error"]
        assert error["file"] == str(tmp_path / "in.jsonl")
    assert (done.num_vectors, done.num_errors) == (2, 5)


def test_halves_of_files_that_a_killed_process_left_go_away(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    names = ("out.npy", "out.npy.rows.jsonl", "out.npy.meta.json", "out.npy.errors.jsonl")
    for name in names:
        (tmp_path / f"{name}.1234567.unfinished").touch()
    run(new_job(data, output, output_format="npy"), tiny_model)

    assert list(tmp_path.glob("*.unfinished")) == []


def test_duplicate_ids_can_be_kept(tiny_model: ServedModel, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "in.jsonl", [{"id": "a", "text": "x"}] * 3)
    job = new_job(data, tmp_path / "out.parquet", duplicate_ids="keep")

    assert run(job, tiny_model).num_vectors == 3


@pytest.mark.parametrize(("dtype", "most_off"), [("float16", 1e-3), ("int8", 1e-2)])
def test_narrow_numbers_keep_the_direction(
    tiny_model: ServedModel, data: Path, tmp_path: Path, dtype: str, most_off: float
) -> None:
    job = new_job(data, tmp_path / "out.parquet", embed_dtype=dtype)

    run(job, tiny_model)

    table = pq.read_table(job.output)
    kind = {"float16": "halffloat", "int8": "int8"}[dtype]
    assert f"<element: {kind}>" in str(table.schema.field("embedding").type)
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    if dtype == "int8":
        assert (np.abs(vectors).max(axis=1) == 127).all()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    right = expected(tiny_model, [row["text"] for row in rows_of(230)])
    assert (1 - np.einsum("nd,nd->n", vectors, right)).max() < most_off


def test_json_lines_hold_the_same_as_parquet(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    run(new_job(data, tmp_path / "out.parquet"), tiny_model)
    run(new_job(data, tmp_path / "out.jsonl", output_format="jsonl"), tiny_model)

    lines = json_lines(tmp_path / "out.jsonl")
    for line in lines:
        line["embedding"] = np.array(line["embedding"], np.float32).tolist()
    assert lines == pq.read_table(tmp_path / "out.parquet").to_pylist()
    metadata = json.loads((tmp_path / "out.jsonl.meta.json").read_text())
    assert metadata == json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"hexgrid"])


def test_npy_holds_good_rows_only_with_a_line_for_each(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    rows = [*rows_of(120), {"id": "bad", "text": 1}, {"id": "last", "text": "last"}]
    data = write_rows(tmp_path / "in.jsonl", rows)
    run(new_job(data, tmp_path / "out.npy", output_format="npy", embed_dtype="float16"), tiny_model)

    vectors = np.load(tmp_path / "out.npy")
    lines = json_lines(tmp_path / "out.npy.rows.jsonl")
    assert vectors.dtype == np.float16
    assert [line["id"] for line in lines] == [row["id"] for row in rows if row["id"] != "bad"]
    texts = [row["text"] for row in rows if row["id"] != "bad"]
    np.testing.assert_allclose(vectors, expected(tiny_model, texts), atol=1e-3)


def test_prompts_are_those_of_the_api(tiny_model: ServedModel, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "in.jsonl", [{"id": 1, "text": "gravity"}])
    job = new_job(data, tmp_path / "out.parquet", wish=Wish(instruction="Find it"))

    run(job, tiny_model)

    table = pq.read_table(job.output)
    right = expected(tiny_model, ["Instruct: Find it\nQuery:gravity"])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), right, atol=2e-6)
    metadata = json.loads(table.schema.metadata[b"hexgrid"])
    assert metadata["prompt"] == "Instruct: Find it\nQuery:"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"name": 1, "text": "x"}], "None of the first 1 rows has an id.*--number-rows"),
    ],
)
def test_an_input_without_rows_or_ids_is_told(
    tiny_model: ServedModel, tmp_path: Path, rows: list[Any], message: str
) -> None:
    data = write_rows(tmp_path / "in.jsonl", rows)

    with pytest.raises(DataError, match=message):
        run(new_job(data, tmp_path / "out.parquet"), tiny_model)


@pytest.mark.parametrize("output", ["", "none/out.parquet"])
def test_where_nothing_can_be_written_is_told_at_once(
    tiny_model: ServedModel, data: Path, tmp_path: Path, output: str
) -> None:
    with pytest.raises(ConfigError, match=r"is a folder|is not there"):
        run(new_job(data, tmp_path / output), tiny_model)


def test_a_journal_of_something_else_is_told(
    tiny_model: ServedModel, data: Path, tmp_path: Path
) -> None:
    job = new_job(data, tmp_path / "out.parquet")
    job.directory.mkdir()
    (job.directory / "journal.jsonl").write_text("not one of ours\n")

    with pytest.raises(DataError, match="no journal of a job"):
        run(job, tiny_model)
