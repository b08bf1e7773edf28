"""hexgrid bench: a model and a server under a short load, the table, JSON and plot, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.cli.conftest import Command, one_line
from tests.server.running import KEY, serving, variant

QUICK = ("--seconds", "0.1", "--warm-up", "0")
FIGURES = {
    "num_tokens", "num_inputs", "concurrency", "requests", "failures", "tokens_per_s", "requests_per_s",
    "p50_ms", "p95_ms", "p99_ms", "gemm_share",
}  # fmt: skip


@pytest.fixture
def url(tiny_model: ServedModel) -> Iterator[str]:
    """A server of two models, which wants a key."""
    metrics = Metrics()
    models = [variant(tiny_model, metrics, name) for name in ("tiny", "other")]
    with serving(models, metrics, api_key=(Secret(KEY),)) as client:
        yield str(client.base_url.join("/v1"))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine has nothing to do with loopback."""
    monkeypatch.setenv("NO_PROXY", "*")


def results(stdout: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stdout)["results"]
    return found


def test_a_model_at_every_length_with_every_concurrency(
    command: Command, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ("--length", "4", "--length", "9", "--concurrency", "1", "--concurrency", "3")
    plot = tmp_path / "plot.svg"

    result = command(
        "bench",
        str(tiny_checkpoint),
        *arguments,
        *QUICK,
        "--inputs",
        "2",
        "--json",
        "--plot",
        str(plot),
    )

    assert result.exit_code == 0, result.stderr
    found = results(result.stdout)
    kinds = [(each["num_tokens"], each["concurrency"]) for each in found]
    assert kinds == [(4, 1), (9, 1), (4, 3), (9, 3)]
    for each in found:
        assert each.keys() == FIGURES
        assert each["failures"] == 0
        assert each["requests"] >= each["concurrency"]
        per_request = each["tokens_per_s"] / each["requests_per_s"]
        assert per_request == pytest.approx(2 * each["num_tokens"])
        assert 0 < each["p50_ms"] <= each["p95_ms"] <= each["p99_ms"]
        assert 0 < each["gemm_share"] < 1
    assert sum("tokens/s" in line for line in result.stderr.splitlines()) == 1
    assert plot.read_text().startswith("<?xml")


def test_a_server(command: Command, url: str) -> None:
    arguments = ("--url-model", "tiny", "--length", "5", "--concurrency", "2", *QUICK)

    for encoding in ("float", "base64"):
        result = command(
            "bench", url, *arguments, "--encoding-format", encoding, "--json",
            env={"HEXGRID_API_KEY": KEY},
        )  # fmt: skip

        assert result.exit_code == 0, result.stderr
        (found,) = results(result.stdout)
        assert found["failures"] == 0
        assert found["tokens_per_s"] / found["requests_per_s"] == pytest.approx(5)
        assert found["gemm_share"] is None


def test_a_load_of_which_nothing_is_answered_is_told_and_fails(command: Command, url: str) -> None:
    arguments = ("--url-model", "none", "--length", "5", "--concurrency", "1", *QUICK)

    result = command("bench", url, *arguments, env={"HEXGRID_API_KEY": KEY})

    assert result.exit_code == 1
    assert "3 x 404: " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--plot", "plot.gif"), "--plot plot.gif must end in .svg or .png"),
        (("--url-model", "x"), "go with a URL"),
        (("--encoding-format", "float"), "go with a URL"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_model_is_loaded(
    command: Command, tiny_checkpoint: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = command("bench", str(tiny_checkpoint), *arguments)

    assert result.exit_code == 2
    assert said in one_line(result)


def test_options_of_the_engine_are_refused_for_a_server(command: Command, url: str) -> None:
    result = command("bench", url, "--dtype", "float32", env={"HEXGRID_API_KEY": KEY})

    assert "--dtype goes with a MODEL" in one_line(result)


def test_texts_longer_than_the_model_takes_are_refused(
    command: Command, tiny_checkpoint: Path
) -> None:
    result = command("bench", str(tiny_checkpoint), "--max-model-len", "8", "--length", "9")

    assert "--length 9: " in result.stderr
    assert "takes at most 8 tokens" in result.stderr
