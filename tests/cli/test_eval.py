"""hexgrid eval: the same scores of a model and of its server, as a table and as JSON."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.cli.conftest import Command, one_line
from tests.cli.hexgrid_process import DEADLINE, environment
from tests.server.running import KEY, serving, variant

QUERY_TASK = "Given a web search query, retrieve relevant passages that answer the query"
OWN = str(Path(__file__).parents[1] / "data/eval")
# Scores of random vectors: near zero, and what 28 paragraphs give by chance.
SCORES = {"everyday": {"spearman"}, "household": {"recall@1", "recall@10", "ndcg@10"}}
LOADS_TORCH = """
import sys
from click.testing import CliRunner
from hexgrid.cli import main

result = CliRunner().invoke(main, sys.argv[1:])
print(result.exit_code, "torch" in sys.modules, result.stderr)
"""


@pytest.fixture
def url(tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of the tiny model, which wants a key."""
    monkeypatch.setenv("NO_PROXY", "*")
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "tiny")], metrics, api_key=(Secret(KEY),)) as client:
        yield str(client.base_url.join("/v1"))


def data(command: Command, *arguments: str, **options: Any) -> Any:
    """What the command prints with --json."""
    result = command("eval", *arguments, "--data", OWN, "--json", **options)
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_a_model_is_scored_on_every_set_at_every_width(
    command: Command, tiny_checkpoint: Path
) -> None:
    found = data(
        command,
        f"tiny={tiny_checkpoint}",
        *("--dtype", "float32", "--dimensions", "32", "--dimensions", "64", "--dimensions", "32"),
    )

    assert (found["model"], found["query_prompt"], found["num_truncated"]) == ("tiny", "", 0)
    results = [(each["set"], each["dimensions"]) for each in found["results"]]
    assert results == [("everyday", 32), ("everyday", 64), ("household", 32), ("household", 64)]
    for each in found["results"]:
        assert SCORES[each["set"]] <= each.keys()
        assert all(-1 <= each[name] <= 1 for name in SCORES[each["set"]])


def test_the_embedded_model_is_scored_under_any_name(command: Command) -> None:
    found = data(command, "small=hexgrid/nano", "--dimensions", "64")

    assert found["model"] == "small"
    assert [each["dimensions"] for each in found["results"]] == [64, 64]


def test_people_get_a_table(command: Command, tiny_checkpoint: Path) -> None:
    result = command("eval", str(tiny_checkpoint), "--data", OWN)

    assert result.exit_code == 0, result.stderr
    header, pairs, retrieval = result.stdout.splitlines()
    assert header.split()[:5] == ["set", "kind", "rows", "dimensions", "spearman"]
    assert pairs.split()[:4] == ["everyday", "pairs", "40", "64"]
    assert retrieval.split()[:6] == ["household", "retrieval", "32", "on", "28", "64"]


def test_with_json_the_table_goes_to_stderr(command: Command, tiny_checkpoint: Path) -> None:
    result = command("eval", str(tiny_checkpoint), "--data", OWN, "--json")

    assert "everyday   pairs" in result.stderr
    assert "recall@10" in json.loads(result.stdout)["results"][1]


def test_texts_that_are_cut_are_told(command: Command, tiny_checkpoint: Path) -> None:
    result = command("eval", str(tiny_checkpoint), "--data", OWN, "--max-model-len", "12")

    *_, last = result.stdout.splitlines()
    assert last.startswith("Texts longer than the model takes, embedded without their end: ")
    assert int(last.split()[-1]) > 28


@pytest.mark.parametrize("prompt", ["none", "query", "Find the answer"])
def test_a_server_gives_the_scores_of_its_model(
    command: Command, tiny_checkpoint: Path, url: str, prompt: str
) -> None:
    options = ("--query-prompt", prompt, "--dimensions", "64", "--dimensions", "16")

    here = data(command, str(tiny_checkpoint), "--dtype", "float32", *options)
    there = data(command, url, *options, env={"HEXGRID_API_KEY": KEY})

    assert there["model"] == "tiny"
    assert there["results"] == here["results"]
    assert there["num_truncated"] == here["num_truncated"] == 0
    assert there["query_prompt"] == here["query_prompt"]


@pytest.mark.parametrize(
    ("prompt", "before"),
    [
        ("none", ""),
        ("query", f"Instruct: {QUERY_TASK}\nQuery:"),
        ("Find the answer", "Instruct: Find the answer\nQuery:"),
    ],
)
def test_the_prompt_before_questions_is_told(
    command: Command, tiny_checkpoint: Path, prompt: str, before: str
) -> None:
    assert data(command, str(tiny_checkpoint), "--query-prompt", prompt)["query_prompt"] == before


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENAI_API_KEY": KEY},
        {"HEXGRID_API_KEY": f"{KEY}\n", "OPENAI_API_KEY": "another"},
        {"HEXGRID_API_KEY": "", "OPENAI_API_KEY": KEY},
    ],
    ids=", ".join,
)
def test_the_key_is_hexgrids_or_else_openais(
    command: Command, url: str, variables: dict[str, str]
) -> None:
    assert data(command, url, "--url-model", "tiny", env=variables)["model"] == "tiny"


def test_a_wrong_key_is_one_line(command: Command, url: str) -> None:
    result = command("eval", url, "--data", OWN, env={"OPENAI_API_KEY": "wrong"})

    assert result.exit_code == 1
    assert "wants another key: " in one_line(result)
    assert "(set HEXGRID_API_KEY or OPENAI_API_KEY)" in one_line(result)
    assert "wrong" not in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("http://127.0.0.1:9/v1", "--device", "cpu"), "--device goes with a MODEL"),
        (("http://127.0.0.1:9/v1", "--max-model-len", "9"), "--max-model-len goes with a MODEL"),
        (("hexgrid/nano", "--url-model", "x"), "--url-model goes with a URL"),
        (("=x",), "must be NAME=MODEL"),
    ],
    ids=str,
)
def test_options_that_cannot_act_are_refused(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    result = command("eval", *arguments, "--data", OWN)

    assert result.exit_code == 2
    assert message in one_line(result)


def test_wrong_data_are_told_before_a_model_is_looked_for(command: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"a": "x", "b": "y"}\n')

    result = command("eval", "no/such/model", "--data", str(tmp_path))

    assert result.exit_code == 1
    assert f"{tmp_path / 'pairs.jsonl'}, line 1: " in one_line(result)


def test_a_width_that_the_model_lacks_is_refused(command: Command, tiny_checkpoint: Path) -> None:
    result = command("eval", str(tiny_checkpoint), "--data", OWN, "--dimensions", "65")

    assert result.exit_code == 1
    assert "only supports dimensions in range [1, 64], got 65" in result.stderr


def test_asking_a_server_loads_no_torch() -> None:
    arguments = ["eval", "http://127.0.0.1:9/v1", "--data", OWN, "--url-model", "x"]
    done = subprocess.run(
        [sys.executable, "-c", LOADS_TORCH, *arguments],
        env=environment(NO_PROXY="*"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )

    assert done.stdout.startswith("1 False hexgrid: http://127.0.0.1:9/v1 cannot be reached")
