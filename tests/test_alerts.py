"""deploy/prometheus/alerts.yaml: in the form that Prometheus loads, about what there is, each explained."""

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from starlette.routing import Route

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import OverloadedError, RateLimitedError
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.forms.paths import FORMS
from hexgrid.server.registry import Models
from tests.promql import TARGET, labels_of, parse

ROOT = Path(__file__).parents[1]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
RULES = [rule for group in FILE["groups"] for rule in group["rules"]]
# Of Go's templates: what Prometheus knows besides variables.
FUNCTIONS = {"humanize", "humanize1024", "humanizeDuration", "humanizePercentage"}


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_file_has_prometheus_own_keys() -> None:
    assert FILE.keys() == {"groups"}
    for group in FILE["groups"]:
        assert group.keys() <= {"name", "interval", "limit", "labels", "rules"}
        assert group.keys() >= {"name", "rules"}
    names = [group["name"] for group in FILE["groups"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_has_prometheus_own_keys_and_ours(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert re.fullmatch(r"Hexgrid[A-Za-z]+", rule["alert"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "runbook_url"}
    for duration in ("for", "keep_firing_for"):
        assert duration not in rule or promql_parser.parse_duration(rule[duration])


def test_no_two_alerts_share_a_name() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_compares(rule: dict[str, Any]) -> None:
    expression = parse(rule["expr"])

    labels = labels_of(expression)
    assert labels is not None
    assert "instance" in labels
    assert re.search(r"[<>]|==", rule["expr"]), "without a comparison it would always be on"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_summary_names_labels_that_the_alert_has(rule: dict[str, Any]) -> None:
    summary = rule["annotations"]["summary"]
    labels = labels_of(parse(rule["expr"]))
    assert labels is not None

    templates = re.findall(r"\{\{(.*?)\}\}", summary)
    assert len(templates) == summary.count("{{") == summary.count("}}") > 0
    for template in templates:
        found = re.fullmatch(r" (?:\$labels\.(\w+)|\$value(?: \| (\w+))?) ", template)
        assert found, template
        assert found[1] is None or found[1] in labels | TARGET
        assert found[2] is None or found[2] in FUNCTIONS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_explained_under_a_heading_of_its_own(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert anchor == rule["alert"].lower()
    assert anchor in slugs(ROOT / page)


def test_every_alert_that_is_explained_is_there() -> None:
    explained = re.findall(
        r"^#+ (Hexgrid\w+)$", (ROOT / "docs/observe.md").read_text(), re.MULTILINE
    )

    assert explained == [rule["alert"] for rule in RULES]


def test_the_alert_on_refusals_has_the_reasons_of_a_429() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "HexgridRefusing")
    (reasons,) = re.findall(r'reason=~"([^"]*)"', rule["expr"])

    errors = (OverloadedError, RateLimitedError)
    assert set(reasons.split("|")) == {error.reason for error in errors if error.status == 429}


@pytest.mark.parametrize("file", ["prometheus/alerts.yaml", "grafana/hexgrid.json"])
def test_embedding_requests_are_those_of_every_path_that_embeds(
    file: str, tiny_model: ServedModel
) -> None:
    text = (ROOT / "deploy" / file).read_text().replace("\\", "")
    patterns = set(re.findall(r'path=~"([^"]*)"', text))
    app = create_app(Models([tiny_model]), ServerConfig(), Metrics())
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    embedding = {path for path, _ in FORMS} | {"/invocations"}

    assert len(patterns) == 1
    for pattern in patterns:
        assert {path for path in paths if re.fullmatch(pattern, path)} == embedding
