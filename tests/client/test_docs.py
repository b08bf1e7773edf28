"""docs/client.md, run as it stands against a real server."""

import doctest
from pathlib import Path

import pytest

from tests.cli.hexgrid_process import serve

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def test_every_example_of_the_page_gives_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        monkeypatch.setenv("HEXGRID_BASE_URL", server.url)
        text = PAGE.read_text().replace("```", "").replace("http://127.0.0.1:8000", server.url)
        examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
        report: list[str] = []

        found = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)

    assert found.failed == 0, "".join(report)
    assert found.attempted > 20
