"""The command line in this process: quicker than a new one, and through the same entry."""

import os
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from hexgrid.cli import main

Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `hexgrid` with arguments, and perhaps `input` or `env`; no HEXGRID_* variable is set."""
    for name in [name for name in os.environ if name.startswith("HEXGRID_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(main, arguments, **options)  # type: ignore[arg-type]

    return run


def one_line(result: Result) -> str:
    """The error that a command ended in: one line on stderr, and nothing on stdout."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("hexgrid: ")
    return line
