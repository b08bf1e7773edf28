"""The command itself: its verbs, its help without heavy imports, its errors in one line."""

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest

from tests.cli.conftest import Command, one_line
from tests.cli.hexgrid_process import DEADLINE, HEXGRID, environment, hexgrid

VERBS = ["serve", "embed", "rank", "eval", "top", "checkpoint"]
# Prints the exit code of a command and which of the heavy packages it has imported.
IMPORTS = """
import json, sys
from click.testing import CliRunner
from hexgrid.cli import main

code = CliRunner().invoke(main, sys.argv[1:]).exit_code
print(json.dumps([code, sorted({"torch", "tokenizers", "uvicorn", "numpy"} & sys.modules.keys())]))
"""


def test_help_names_every_verb(command: Command) -> None:
    result = command("--help")

    assert result.exit_code == 0
    assert all(re.search(rf"^  {verb} ", result.stdout, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(command: Command, verb: str, flag: str) -> None:
    result = command(verb, flag)

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {verb}")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["serve", "--help"], 0),
        (["embed", "--help"], 0),
        (["rank", "--help"], 0),
        (["checkpoint", "make", "--help"], 0),
        (["checkpoint", "export", "--help"], 0),
        (["eval", "--help"], 0),
        (["top", "--help"], 0),
        (["top", "http://127.0.0.1:9", "--once"], 1),
        (["serve", "--port", "70000"], 2),
        (["serve", "--nope"], 2),
        (["embed", "text", "--max-num-seqs", "0"], 2),
        (["eval", "model", "--data", "folder", "--max-num-seqs", "0"], 2),
    ],
    ids=str,
)
def test_help_and_wrong_settings_load_nothing_heavy(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        env=environment(),
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )

    assert json.loads(done.stdout) == [code, []]


def test_the_version_is_the_packages(command: Command) -> None:
    assert importlib.metadata.version("hexgrid") in command("--version").stdout


def test_an_unknown_verb_is_a_usage_error(command: Command) -> None:
    result = command("sevre")

    assert result.exit_code == 2
    assert "No such command 'sevre'" in result.stderr


def test_an_unknown_variable_is_refused_with_the_nearest_name(command: Command) -> None:
    result = command("embed", "text", env={"HEXGRID_MAX_MODEL_LENGTH": "8"})

    assert result.exit_code == 2
    assert one_line(result).endswith(
        "HEXGRID_MAX_MODEL_LENGTH names no setting; did you mean HEXGRID_MAX_MODEL_LEN?"
    )


def test_a_variable_of_the_wrong_kind_is_refused(command: Command) -> None:
    result = command("embed", "text", env={"HEXGRID_MAX_NUM_SEQS": "many"})

    assert result.exit_code == 2
    assert one_line(result) == "hexgrid: HEXGRID_MAX_NUM_SEQS must be a number, got 'many'"


def test_an_error_of_the_installed_command_is_one_line_and_no_traceback() -> None:
    done = hexgrid("embed", "text", "--model", "/no/such/directory")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "hexgrid: MODEL '/no/such/directory' is neither a directory nor a hub id of the form "
        "owner/name\n"
    )


def test_the_module_is_the_command() -> None:
    outputs = [
        subprocess.run(
            [*program, "--version"],
            capture_output=True,
            timeout=DEADLINE,
            check=True,
            env=environment(),
        ).stdout
        for program in ([HEXGRID], [sys.executable, "-m", "hexgrid"])
    ]

    assert outputs[0] == outputs[1]
