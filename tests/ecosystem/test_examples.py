"""Every program of examples/ runs with the real package on a real server, and finds the right document."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.hexgrid_process import Serving
from tests.ecosystem.conftest import ROOT
from tests.ecosystem.postgres import postgres

pytestmark = pytest.mark.ecosystem
EXAMPLES = ROOT / "examples"
# These need more than a server, and have tests of their own.
_WITH_MORE = {"pgvector_search.py", "mteb_task.py"}
_SEARCHES = sorted({path.name for path in EXAMPLES.glob("*.py")} - _WITH_MORE)


def run(server: Serving, *command: str | Path, **variables: str) -> str:
    """What a program prints; it has no network but the server, and no key, as it has no need of one."""
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        env={
            "HEXGRID_URL": server.url,
            "HF_HUB_OFFLINE": "1",
            "HOME": os.environ.get("HOME", "/"),
            "PATH": os.environ["PATH"],
        }
        | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_found(printed: str) -> None:
    """The score of the only document about bread, then the document."""
    assert re.fullmatch(r"0\.[5-8]\d  Sourdough rises [^\n]+\n", printed), printed


@pytest.mark.parametrize("example", _SEARCHES)
def test_an_example_finds_the_document(example: str, python: Path, server: Serving) -> None:
    assert_found(run(server, python, example))


def test_the_example_of_node_finds_the_document(node: str, server: Serving) -> None:
    assert_found(run(server, node, "node/search.mjs"))


def test_pgvector_finds_the_document(python: Path, server: Serving) -> None:
    with postgres(python) as url:
        assert_found(run(server, python, "pgvector_search.py", DATABASE_URL=url))


def test_mteb_scores_the_model(python: Path, server: Serving) -> None:
    data = ROOT / "tests/data/eval/household"

    printed = run(server, python, "mteb_task.py", data)

    found = re.fullmatch(r"nDCG@10 (0\.\d+)  recall@1 (0\.\d+)\n", printed)
    assert found, printed
    # With the instruction; without it nDCG@10 is lower.
    assert float(found[1]) == pytest.approx(0.967, abs=0.02)
    assert float(found[2]) == pytest.approx(0.938, abs=0.035)


def test_every_example_is_listed_in_the_docs() -> None:
    page = (ROOT / "docs/integrations.md").read_text()
    files = [path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*.py")]

    assert [f for f in [*files, "node/search.mjs"] if f"examples/{f}" not in page] == []
