"""A report as an aligned table for people and as plain data for programs."""

import math
from collections.abc import Iterator
from typing import Any

from hexgrid.evaluation.run import Report, Result
from hexgrid.tables import aligned

_SCORES = ("spearman", "recall@1", "recall@10", "ndcg@10")
_HEADER = ("set", "kind", "rows", "dimensions", *_SCORES)


def table(report: Report) -> Iterator[str]:
    """One line a set and width, under a header; then what there is to say of texts that were cut."""
    yield from aligned([_HEADER, *map(_cells, report.results)], num_left=2)
    if report.num_truncated is None:
        yield "The server does not say whether it cut texts that are too long for the model."
    elif report.num_truncated:
        yield f"Texts longer than the model takes, embedded without their end: {report.num_truncated}"


def as_data(report: Report) -> dict[str, Any]:
    """The report as JSON has it: one entry a set and width, undefined scores as null."""
    return {
        "num_truncated": report.num_truncated,
        "results": [
            {
                "set": result.set,
                "kind": result.kind,
                "rows": result.rows,
                "paragraphs": result.paragraphs,
                "dimensions": result.dimensions,
                **{name: None if math.isnan(s) else s for name, s in result.scores.items()},
            }
            for result in report.results
        ],
    }


def _cells(result: Result) -> tuple[str, ...]:
    rows = f"{result.rows}"
    if result.paragraphs is not None:
        rows += f" on {result.paragraphs}"
    scores = (f"{result.scores[name]:.4f}" if name in result.scores else "" for name in _SCORES)
    return (result.set, result.kind, rows, f"{result.dimensions}", *scores)
