"""README and docs: what they tell people to run is run, and what they say is answered is answered."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hexgrid.config import all_settings
from tests.cli.hexgrid_process import Serving, serve

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PAGES = ["README.md", "docs/quickstart.md", "docs/migrate.md", "docs/bulk.md"]
PYTHON_PAGES = ["README.md", "docs/migrate.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """What `make serve` starts, on a free port."""
    with serve() as served:
        yield served


def runnable(page: str) -> list[str]:
    """The blocks of a page that ask or compute; `make` itself is what runs this test."""
    return [block for block in blocks(page, "bash") if "make " not in block.split("hexgrid")[0]]


@pytest.mark.parametrize(
    ("page", "index"), [(page, i) for page in PAGES for i in range(len(runnable(page)))]
)
def test_every_bash_block_works_as_it_stands(
    page: str, index: int, server: Serving, tmp_path: Path
) -> None:
    script = runnable(page)[index].replace("http://127.0.0.1:8000", server.url)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("curl -s", "curl -sSf")],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "index"),
    [(page, i) for page in PYTHON_PAGES for i in range(len(blocks(page, "python")))],
)
def test_every_python_block_works(page: str, index: int, server: Serving) -> None:
    script = blocks(page, "python")[index].replace("http://127.0.0.1:8000", server.url)

    done = subprocess.run(
        [sys.executable, "-c", script],
        # Only our server is asked, which the hub's client takes for the hub.
        env={name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"\b(32|256)\b", done.stdout), "the vectors' length is printed"


def test_the_readme_shows_the_real_answer_and_it_is_the_right_document(server: Serving) -> None:
    shown = json.loads(blocks("README.md", "json")[0])
    script = runnable("README.md")[0].replace("http://127.0.0.1:8000", server.url)

    answer = json.loads(subprocess.check_output(["bash", "-c", script], timeout=60))

    # bfloat16 or float32, as the processor has it
    assert answer == pytest.approx(shown, abs=0.02)
    assert answer[1] > answer[0] + 0.2


def test_make_serve_and_make_test_are_the_first_commands_of_the_readme() -> None:
    commands = [line.split("#")[0].strip() for line in blocks("README.md", "bash")[0].splitlines()]

    assert commands == ["make serve", "make test"]


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", *map(str, Path("docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    source = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", source.read_text()):
        assert target.startswith("https://") or (source.parent / target).exists(), target


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/build_docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_setting_has_a_row() -> None:
    page = (ROOT / "docs/settings.md").read_text()

    assert [s.variable for s in all_settings() if f"`{s.variable}`" not in page] == []


def test_every_claim_of_the_security_page_has_its_test() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }

    assert named
    assert named - there == set()
