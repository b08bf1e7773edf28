"""PromQL as Prometheus reads it over our metrics: the labels of an expression's result, or a mistake."""

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

from hexgrid.metrics import Metrics

# What Prometheus itself adds to each sample, and the one metric that it makes.
TARGET = frozenset({"job", "instance"})
_COUNTED = ("_total", "_bucket", "_sum", "_count")

Labels = frozenset[str]


class MistakeError(Exception):
    """The expression names what is not there, or can never match."""


def samples() -> dict[str, Labels]:
    """Every name that a query can ask for, and its labels."""
    found = {"up": TARGET}
    metrics = Metrics()
    for name, kind, labels, _ in metrics.instruments:
        if kind == "histogram":
            found |= {f"{name}_{part}": TARGET | set(labels) for part in ("sum", "count")}
            found[f"{name}_bucket"] = TARGET | {*labels, "le"}
        else:
            found[name] = TARGET | set(labels)
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.name.startswith("process_"):
            found |= {sample.name: TARGET for sample in family.samples}
    return found


KNOWN = samples()


def parse(expression: str) -> promql.Expr:
    """As Grafana would send it.

    Raises:
        ValueError: Prometheus would refuse it.
    """
    return promql.parse(expression.replace("$__rate_interval", "5m"))


def labels_of(expression: promql.Expr) -> Labels | None:  # noqa: PLR0911 (one a kind of expression)
    """What the result's samples are told apart by; None of a number.

    Raises:
        MistakeError: see there.
    """
    match expression:
        case promql.NumberLiteral() | promql.StringLiteral():
            return None
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return labels_of(expression.expr)
        case promql.MatrixSelector(vector_selector=selector):
            return _of_selector(selector)
        case promql.VectorSelector():
            return _of_selector(expression)
        case promql.AggregateExpr():
            return _of_aggregate(expression)
        case promql.Call():
            return _of_call(expression)
        case promql.BinaryExpr():
            return _of_binary(expression)
    raise AssertionError(expression)


def _of_selector(selector: promql.VectorSelector) -> Labels:
    if selector.name not in KNOWN:
        raise MistakeError(f"no metric {selector.name}")
    labels = KNOWN[selector.name]
    _refuse({matcher.name for matcher in selector.matchers.matchers} - labels, selector.name)
    return labels


def _of_aggregate(aggregate: promql.AggregateExpr) -> Labels:
    inner = labels_of(aggregate.expr)
    assert inner is not None
    if aggregate.modifier is None:
        return frozenset()
    named = frozenset(aggregate.modifier.labels)
    _refuse(named - inner, "an aggregate")
    return named if aggregate.modifier.type == promql.AggModifierType.By else inner - named


def _of_call(call: promql.Call) -> Labels | None:
    name = call.func.name
    labels = [labels_of(argument) for argument in call.args]
    vectors = [each for each in labels if each is not None]
    if name in ("rate", "increase"):
        (matrix,) = call.args
        assert isinstance(matrix, promql.MatrixSelector)
        counter = matrix.vector_selector.name
        if not (counter or "").endswith(_COUNTED):
            raise MistakeError(f"{name} of {counter}, which is no counter")
    if name == "histogram_quantile":
        (inner,) = vectors
        if "le" not in inner:
            raise MistakeError("histogram_quantile without le")
        return inner - {"le"}
    return vectors[0] if vectors else None


def _of_binary(binary: promql.BinaryExpr) -> Labels | None:
    left, right = labels_of(binary.lhs), labels_of(binary.rhs)
    if left is None or right is None:
        return left if right is None else right
    modifier = binary.modifier
    if modifier is None or modifier.matching is None:
        # `or` takes what is on either side, and needs no match.
        if str(binary.op) != "or" and left != right:
            raise MistakeError(f"{set(left)} never matches {set(right)}")
        return left
    on = set(modifier.matching.labels)
    assert modifier.matching.type == promql.LabelModifierType.Include, "ignoring is not looked at"
    _refuse(on - left, "the left side")
    _refuse(on - right, "the right side")
    return left


def _refuse(labels: set[str] | Labels, where: str) -> None:
    if labels:
        raise MistakeError(f"no label {', '.join(sorted(labels))} on {where}")
