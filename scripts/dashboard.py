"""The Grafana dashboard deploy/grafana/hexgrid.json, from the panels of dashboard_rows.py.

The data source is a variable, so that the file can be imported by hand or provisioned as it is.
"""

import json
from typing import Any

from dashboard_rows import HERE, ROWS, Panel

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 24, 8


def dashboard() -> str:
    """The file's content."""
    document = {
        "title": "hexgrid",
        "uid": "hexgrid",
        "tags": ["embeddings"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }
    return json.dumps(document, indent=1) + "\n"


def _variables() -> list[dict[str, Any]]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    return [
        source,
        _variable("instance", "Instance", "label_values(hexgrid_build_info, instance)"),
        _variable("model", "Model", f"label_values(hexgrid_model_info{{{HERE}}}, model_name)"),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    """All values at first; `.*` lets refusals through whose model is not known."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> list[dict[str, Any]]:
    """Row after row, each over the whole width."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_heading(title, len(panels) + 1, top))
        top += 1
        per_line = 2 if len(row) == 4 else 3
        width = _WIDTH // per_line
        for place, panel in enumerate(row):
            position = {
                "x": place % per_line * width,
                "y": top + place // per_line * _HEIGHT,
                "w": width,
                "h": _HEIGHT,
            }
            panels.append(_graph(panel, len(panels) + 1, position))
        top += -(-len(row) // per_line) * _HEIGHT
    return panels


def _heading(title: str, number: int, top: int) -> dict[str, Any]:
    position = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": position,
        "panels": [],
    }


def _graph(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }
