"""README and docs: what they tell people to run is run, and what they say is answered is answered.

Every block of bash and Python runs as it stands, against what `make serve` starts; of JavaScript in
`make test-ecosystem`, as it needs Node. One that cannot says why, on the line before it:
`<!-- not run: why -->`. Blocks of the language `console` show commands that need another machine, a download
or a secret: they are held to what the command line knows. JSON is read.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from hexgrid.cli import main as hexgrid_command
from hexgrid.config import all_settings
from tests.cli.hexgrid_process import Serving, serve

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
# What is shown and not run: answers, and files of other programs.
_SHOWN = {"", "text", "json", "yaml", "ini", "nginx", "console"}
_RUN = {"bash", "python", "javascript"}
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]{10,}) -->\n)?"
    r"^[ ]*```(?P<language>[a-z]*)[^\n]*\n(?P<text>.*?)^[ ]*```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block: what it holds, and why it is not run, if it is not."""

    page: str
    number: int
    language: str
    text: str
    why: str | None

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks_of(page: str) -> list[Block]:
    found = _BLOCK.finditer((ROOT / page).read_text())
    return [Block(page, i, b["language"], b["text"], b["why"]) for i, b in enumerate(found)]


ALL = [block for page in PAGES for block in blocks_of(page)]


# Its Python is one session, which tests/client/test_docs.py runs as a whole.
_SESSIONS = {"docs/client.md"}


def blocks(language: str) -> list[Block]:
    """Those of a language that run one by one."""
    return [
        block
        for block in ALL
        if block.language == language and block.why is None and block.page not in _SESSIONS
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """What `make serve` starts, on a free port."""
    with serve() as served:
        yield served


def run(block: Block, server: Serving, directory: Path, *command: str | Path) -> str:
    """What a block prints; `command` reads it on stdin."""
    done = subprocess.run(
        command,
        input=block.text.replace("http://127.0.0.1:8000", server.url).replace(
            "curl -s", "curl -sSf"
        ),
        cwd=directory,
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_every_bash_block_works_as_it_stands(block: Block, server: Serving, tmp_path: Path) -> None:
    run(block, server, tmp_path, "bash", "-euo", "pipefail")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_block_works_as_it_stands(
    block: Block, server: Serving, tmp_path: Path
) -> None:
    if not block.text.startswith(">>>"):
        assert run(block, server, tmp_path, sys.executable, "-"), "an example shows something"
        return
    run(block, server, tmp_path, "tee", "session.txt")
    assert run(block, server, tmp_path, sys.executable, "-m", "doctest", "session.txt") == ""


@pytest.mark.ecosystem
@pytest.mark.parametrize("block", blocks("javascript"), ids=str)
def test_every_javascript_block_works_as_it_stands(
    block: Block, server: Serving, tmp_path: Path
) -> None:
    node = shutil.which("node")
    assert node is not None, "There is no `node` in the PATH: install Node.js 20 or later"

    assert run(block, server, tmp_path, node, "--input-type=module")


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.language == "console" and "$ " in b.text], ids=str
)
def test_every_console_block_has_commands_and_flags_that_exist(block: Block) -> None:
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)

    assert commands
    for command in commands:
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        name = Path(words[0]).name if words else ""
        if name == "hexgrid":
            refuse_unknown(words[1:])


def refuse_unknown(words: list[str]) -> None:
    """Fail if a verb or a flag is not of the command line; values are not looked at."""
    command: click.Command = hexgrid_command
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    flags = {word.split("=")[0] for word in words if word.startswith("--")}
    assert flags - known - {"--help", "--version"} == set()


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "json"], ids=str)
def test_every_json_block_is_json(block: Block) -> None:
    json.loads(block.text)


def test_every_block_is_run_or_says_why_not() -> None:
    assert {b.language for b in ALL} <= _SHOWN | _RUN
    assert {b.language for b in ALL if b.why is not None} <= _RUN
    for page in PAGES:
        text = (ROOT / page).read_text()
        fences = re.findall(r"^[ ]*```", text, re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page
        markers = re.findall(r"^<!-- not run", text, re.MULTILINE)
        assert len(markers) == sum(b.why is not None for b in blocks_of(page)), page


def test_the_readme_shows_the_real_answer_and_it_is_the_right_document(
    server: Serving, tmp_path: Path
) -> None:
    shown = json.loads(next(b.text for b in ALL if b.page == "README.md" and b.language == "json"))
    block = next(b for b in blocks("bash") if b.page == "README.md")

    answer = json.loads(run(block, server, tmp_path, "bash"))

    # bfloat16 or float32, as the processor has it
    assert answer == pytest.approx(shown, abs=0.02)
    assert answer[1] > answer[0] + 0.2


def test_make_serve_and_make_test_are_the_first_commands_of_the_readme() -> None:
    first = blocks_of("README.md")[0]
    commands = [line.split("#")[0].strip() for line in first.text.splitlines()]

    assert commands == ["make serve", "make test"]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    source = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", source.read_text()):
        assert target.startswith("https://") or (source.parent / target).exists(), target


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted(
        ["index.md", *(path.name for path in (ROOT / "docs").glob("*.md"))]
    )


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


@pytest.mark.parametrize("page", ["docs/operate.md"])
def test_settings_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    known = {setting.variable for setting in all_settings()}
    flags = {setting.flag for setting in all_settings()}

    assert set(re.findall(r"HEXGRID_[A-Z_]+", text)) <= known
    for line in re.findall(r"^\$ hexgrid serve (.*)$", text, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= flags


def test_every_claim_of_the_security_page_has_its_test() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }

    assert named
    assert named - there == set()
