"""docs/ as a site: it builds strictly, a broken link fails, and nothing is fetched to read it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ecosystem.conftest import ROOT

pytestmark = pytest.mark.ecosystem


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what the site is made of, or links to."""
    without = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("docs", "scripts", "deploy", "benchmarks", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=without)
    for path in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / ".dockerignore"):
        shutil.copy(path, tmp_path)
    return tmp_path


def build(sources: Path) -> "subprocess.CompletedProcess[str]":
    """What `make docs-site` does, without a network: its proxy leads nowhere."""
    mkdocs = ROOT / "build/site/bin/mkdocs"
    assert mkdocs.is_file(), f"{mkdocs} is missing; `make docs-site` installs it"
    nowhere = "http://127.0.0.1:9"
    return subprocess.run(
        [mkdocs, "build", "--strict"],
        cwd=sources,
        env={
            "PATH": "/usr/bin:/bin",
            "NO_MKDOCS_2_WARNING": "1",
            "http_proxy": nowhere,
            "https_proxy": nowhere,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_site_builds_and_fetches_nothing(sources: Path) -> None:
    done = build(sources)

    assert done.returncode == 0, done.stderr
    site = sources / "build/docs"
    pages = {path.name: path.read_text() for path in site.glob("*.html")}
    assert pages.keys() >= {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert "index.html" in pages
    fetched = [
        address
        for page in pages.values()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page)
        if not re.search(r'rel="?canonical', tag)
        for address in re.findall(r'(?:src|href)="?([^" >]+)', tag)
        if re.match(r"(https?:)?//", address)
    ]
    assert fetched == []
    assert (site / "search/search_index.json").is_file()


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("docs/nano.md", "[gone](gone.md)"),
        ("docs/nano.md", "[gone](api.md#gone)"),
        ("docs/nano.md", "[gone](../deploy/gone.yaml)"),
        ("README.md", "[gone](docs/gone.md)"),
    ],
)
def test_a_broken_link_fails_the_build(sources: Path, page: str, link: str) -> None:
    with (sources / page).open("a") as file:
        file.write(f"\n{link}\n")

    done = build(sources)

    assert done.returncode != 0
    assert "gone" in done.stderr
