"""Which files a job reads."""

from pathlib import Path

import pytest

from hexgrid.errors import ConfigError
from hexgrid.jobs.inputs import find_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.txt", "deep/c.csv.gz", "_left.jsonl", ".hidden.jsonl", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_a_folder_gives_its_files_of_known_formats_by_name(folder: Path) -> None:
    found = [(Path(f.path).name, f.format) for f in find_inputs([str(folder)], None)]

    assert found == [("a.txt", "text"), ("b.jsonl", "jsonl"), ("c.csv.gz", "csv")]


def test_a_pattern_gives_its_files_by_name(folder: Path) -> None:
    (found,) = find_inputs([f"{folder}/**/*.gz"], None)

    assert found.path == str(folder / "deep/c.csv.gz")


def test_the_order_of_the_arguments_is_kept(folder: Path) -> None:
    found = find_inputs([str(folder / "b.jsonl"), str(folder / "a.txt")], None)

    assert [file.format for file in found] == ["jsonl", "text"]


def test_a_file_of_any_name_is_read_as_what_it_is_said_to_be(folder: Path) -> None:
    (found,) = find_inputs([str(folder / "note.md")], "text")

    assert found.format == "text"


@pytest.mark.parametrize(
    ("arguments", "form", "message"),
    [
        (["{}/none.jsonl"], None, "none.jsonl cannot be read: No such file"),
        (["{}/*.parquet"], None, r"No file matches .*\*.parquet"),
        (["{}/note.md"], None, "no ending of .jsonl.* --input-format jsonl|csv"),
        (["{}/b.jsonl", "{}"], None, "b.jsonl is named twice"),
        (["-", "{}/b.jsonl"], None, "cannot be read beside other inputs"),
        (["-"], "parquet", "Parquet cannot be read from standard input"),
    ],
)
def test_what_cannot_be_read_is_told(
    folder: Path, arguments: list[str], form: None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_inputs([each.format(folder) for each in arguments], form)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no file of \.jsonl"):
        find_inputs([str(tmp_path)], None)
