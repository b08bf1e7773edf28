"""hexgrid usage: the same sums as a table, as CSV and as JSON, by what one asks."""

import json
from pathlib import Path

import pytest

from hexgrid.server import usage
from hexgrid.server.usage import UsageMeter
from tests.cli.conftest import Command, one_line

NOON = 1_767_268_800  # 2026-01-01 12:00 UTC


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    meter = UsageMeter(tmp_path)
    for seconds, name, model, tokens in (
        (0, "search", "m", 10),
        (10, "search", "m", 20),
        (3_600, "search", "n", 30),
        (86_400, "chat", "m", 40),
        (86_400, None, "m", 50),
    ):
        monkeypatch.setattr(usage, "_now", lambda at=seconds: NOON + at)
        meter.record(name, model, inputs=2, tokens=tokens)
    meter.close()
    monkeypatch.undo()
    return tmp_path


def test_a_table_by_key_and_model(command: Command, directory: Path) -> None:
    result = command("usage", "--usage-dir", str(directory))

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "KEY     MODEL  REQUESTS  INPUTS  TOKENS",
        "-       m             1       2      50",
        "chat    m             1       2      40",
        "search  m             2       4      30",
        "search  n             1       2      30",
    ]


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("", [[5, 10, 150]]),
        ("day", [["2026-01-01", 3, 6, 60], ["2026-01-02", 2, 4, 90]]),
        ("hour,model", [
            ["2026-01-01 12:00", "m", 2, 4, 30],
            ["2026-01-01 13:00", "n", 1, 2, 30],
            ["2026-01-02 12:00", "m", 2, 4, 90],
        ]),
        ("month", [["2026-01", 5, 10, 150]]),
    ],
)  # fmt: skip
def test_sums_by_what_is_asked_for(
    command: Command, directory: Path, by: str, rows: list[list[str | int]]
) -> None:
    arguments = ("usage", "--usage-dir", str(directory), "--by", by)

    data = json.loads(command(*arguments, "--json").stdout)
    lines = command(*arguments, "--csv").stdout.splitlines()

    assert [list(each.values()) for each in data] == rows
    assert lines[0].split(",") == [*filter(None, by.split(",")), "requests", "inputs", "tokens"]
    assert [line.split(",") for line in lines[1:]] == [list(map(str, row)) for row in rows]


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        (("--since", "2026-01-01T13:00:00"), 120),
        (("--until", "2026-01-01T13:00:00"), 30),
        (("--since", "2026-01-01", "--until", "2026-01-02"), 60),
    ],
)
def test_a_part_of_the_time(
    command: Command, directory: Path, arguments: tuple[str, ...], tokens: int
) -> None:
    result = command("usage", "--usage-dir", str(directory), "--by", "", "--json", *arguments)

    assert json.loads(result.stdout)[0]["tokens"] == tokens


def test_what_cannot_be_asked_for_is_told(
    command: Command, directory: Path, tmp_path: Path
) -> None:
    result = command("usage", "--usage-dir", str(directory), "--by", "week")
    assert result.exit_code == 2
    assert "'week' is none of key, model, hour, day, month" in result.stderr
    result = command("usage", "--usage-dir", str(directory), "--csv", "--json")
    assert result.exit_code == 2
    result = command("usage", "--usage-dir", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "has no usage.sqlite3" in one_line(result)
