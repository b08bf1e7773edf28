"""A directory of usage, at a fixed hour."""

from pathlib import Path

import pytest

from hexgrid.server import usage as usage_module
from tests.server.usage.sums import NOON


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(usage_module, "_now", lambda: NOON + 1_234)
    return tmp_path / "usage"
