"""Figures as lines: what stands where, what alarms, and what a narrow terminal shows."""

from dataclasses import replace

import pytest

from hexgrid.monitor.figures import Figures, Latency, ModelFigures
from hexgrid.monitor.view import lines

MODEL = ModelFigures(
    name="hexgrid/nano",
    ready=True,
    requests_per_s=12.25,
    inputs_per_s=30.0,
    tokens_per_s=4512.4,
    queue_inputs=7,
    queue_tokens=1200,
    queue_share=0.3,
    batch_inputs=5.5,
    batch_tokens=800,
    result_cache_share=0.35,
    result_store_share=None,
    prefix_cache_share=0.125,
    latency={
        "request": Latency(12.04, 1234.5),
        "tokenize": Latency(0.4, 0.5),
        "queue": Latency(None, None),
        "forward": Latency(9.0, 40.0),
        "encode": Latency(0.1, 0.1),
    },
    rejected_per_s={"overloaded": 0.5},
)
FIGURES = Figures(
    version="0.1.0",
    seconds=2.0,
    uptime_seconds=7 * 3600 + 65,
    requests_per_s=13.0,
    in_flight=3,
    memory_bytes=1.25e9,
    cpu_share=1.8,
    open_files=34,
    rejected_per_s={"unauthorized": 0.0},
    models=[MODEL],
)
CALM = replace(FIGURES, models=[replace(MODEL, rejected_per_s={})])


def cells(figures: Figures, width: int | None = None) -> dict[str, str]:
    """Each line by its name; the later of two, which is the models'."""
    rows = (line.text.strip().partition("  ") for line in lines(figures, width))
    return {name: cell.strip() for name, _, cell in rows}


def alarms(figures: Figures) -> list[str]:
    return [line.text.split("  ")[0] for line in lines(figures) if line.is_alarming]


def test_every_figure_has_a_line() -> None:
    assert cells(FIGURES) == {
        "version": "0.1.0",
        "up": "7 h 1 min",
        "requests/s": "12.2",
        "in flight": "3",
        "memory": "1,250 MB",
        "processor": "180%",
        "open files": "34",
        "unauthorized/s": "0.0",
        "": "",
        "model": "hexgrid/nano",
        "ready": "yes",
        "inputs/s": "30.0",
        "tokens/s": "4,512",
        "queue, inputs": "7",
        "queue, tokens": "1,200",
        "queue, full": "30%",
        "batch, inputs": "5.5",
        "batch, tokens": "800",
        "from result cache": "35%",
        "from disk": "-",
        "from prefix cache": "12%",
        "p50 / p95 in ms": "",
        "request": "12 / 1,234",
        "tokenize": "0.4 / 0.5",
        "queue": "- / -",
        "forward": "9.0 / 40",
        "encode": "0.1 / 0.1",
        "overloaded/s": "0.5",
    }


def test_what_is_not_known_is_a_dash() -> None:
    unknown = replace(
        FIGURES,
        version=None,
        uptime_seconds=None,
        in_flight=None,
        memory_bytes=None,
        cpu_share=None,
        open_files=None,
        models=[replace(MODEL, ready=None, queue_share=None)],
    )

    found = cells(unknown)

    names = ("version", "up", "in flight", "memory", "processor", "open files", "ready")
    assert [found[name] for name in (*names, "queue, full")] == ["-"] * 8


@pytest.mark.parametrize(
    ("figures", "alarming"),
    [
        (CALM, []),
        (FIGURES, ["overloaded/s"]),
        (replace(CALM, rejected_per_s={"unauthorized": 0.5}), ["unauthorized/s"]),
        (replace(CALM, models=[replace(CALM.models[0], ready=False)]), ["ready"]),
        (replace(CALM, models=[replace(CALM.models[0], queue_share=0.8)]), ["queue, full"]),
        (replace(CALM, models=[replace(CALM.models[0], queue_share=0.79)]), []),
    ],
)
def test_what_needs_a_look_alarms(figures: Figures, alarming: list[str]) -> None:
    assert alarms(figures) == alarming


def test_a_model_is_a_column() -> None:
    both = replace(FIGURES, models=[MODEL, replace(CALM.models[0], name="large", tokens_per_s=7)])

    found = cells(both)

    assert found["model"].split() == ["hexgrid/nano", "large"]
    assert found["tokens/s"].split() == ["4,512", "7"]
    assert found["overloaded/s"].split() == ["0.5", "0.0"]


def test_a_narrow_terminal_shows_as_many_models_as_fit_and_counts_the_rest() -> None:
    many = replace(FIGURES, models=[replace(MODEL, name=f"model-{i}") for i in range(5)])

    shown = lines(many, 50)

    assert max(len(line.text) for line in shown) <= 50
    assert cells(many, 50)["model"].split() == ["model-0", "model-1"]
    assert shown[-1].text == "3 more in a wider terminal"
    assert cells(many, None)["model"].split() == [f"model-{i}" for i in range(5)]
    assert cells(many, 10)["model"] == "model-0"


def test_one_model_of_an_ordinary_name_fits_in_40_columns() -> None:
    assert max(len(line.text) for line in lines(FIGURES)) <= 40


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (86_400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_a_duration_is_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert cells(replace(FIGURES, uptime_seconds=seconds))["up"] == shown
