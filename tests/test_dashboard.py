"""deploy/grafana/hexgrid.json: panels that lie side by side, and queries that find something."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.promql import labels_of, parse

ROOT = Path(__file__).parents[1]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/hexgrid.json").read_text())
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in GRAPHS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
WIDTH = 24


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return {
        (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    }


def test_every_panel_has_a_number_of_its_own() -> None:
    numbers = [panel["id"] for panel in PANELS]

    assert len(set(numbers)) == len(numbers)


def test_panels_fill_the_grid_without_overlaps() -> None:
    taken = [cell for panel in PANELS for cell in cells(panel)]

    assert len(set(taken)) == len(taken)
    height = max(y for _, y in taken) + 1
    assert set(taken) == {(x, y) for x in range(WIDTH) for y in range(height)}


def test_rows_and_their_panels_are_in_order() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Traffic",
        "Latency",
        "Queue",
        "Batches",
        "Caches",
        "Errors",
        "Process",
    ]
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in PANELS]
    assert places == sorted(places)


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_query_asks_for_what_there_is(title: str, target: dict[str, Any]) -> None:
    labels = labels_of(parse(target["expr"]))

    assert labels is not None
    legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert legend <= labels
    # Two lines of one name could not be told apart; job is what a data source's servers have in common.
    assert labels - {"job"} <= legend


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_query_is_held_to_what_was_chosen(title: str, target: dict[str, Any]) -> None:
    """All but those that only say whose process it is."""
    selectors = re.findall(r"(?:hexgrid|process)_\w+(?:\{[^}]*\})?", target["expr"])

    chosen = [each for each in selectors if each != "hexgrid_build_info"]
    assert chosen
    assert all('instance=~"$instance"' in each for each in chosen)


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_a_panel_names_its_queries_and_takes_the_chosen_source(panel: dict[str, Any]) -> None:
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_source_instance_and_model_can_be_chosen() -> None:
    assert VARIABLES.keys() == {"datasource", "instance", "model"}
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    for name, label in (("instance", "instance"), ("model", "model_name")):
        query = VARIABLES[name]["query"]["query"]
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found, query
        labels = labels_of(parse(found[1]))
        assert labels is not None
        assert found[2] == label
        assert label in labels
        # What is refused before a model is known has none; `.*` shows it, `.+` would not.
        assert VARIABLES[name]["allValue"] == ".*"


def test_every_variable_that_is_used_is_there() -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))

    assert used - {"__rate_interval", "__all"} == VARIABLES.keys()
