"""What the examples need: the environment of `make test-ecosystem`, Node's packages, and a server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.hexgrid_process import Serving, serve

ROOT = Path(__file__).parents[2]
_HOW = "`make test-ecosystem` installs it"


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that has the packages of the examples."""
    python = ROOT / "build/ecosystem/bin/python"
    assert python.is_file(), f"{python} is missing; {_HOW}"
    return python


@pytest.fixture(scope="session")
def node() -> str:
    """Node 20 or later, with the packages of examples/node."""
    node = shutil.which("node")
    assert node is not None, "There is no `node` in the PATH: install Node.js 20 or later with npm"
    installed = ROOT / "examples/node/node_modules/openai"
    assert installed.is_dir(), f"{installed} is missing; {_HOW}"
    return node


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    with serve() as served:
        yield served
