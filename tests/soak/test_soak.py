"""The soak in a few seconds: every request of every kind is answered as it must be, and counted once."""

from pathlib import Path

from tests.soak.phases import Plan, soak
from tests.soak.pool import make_pool
from tests.soak.report import correctness


def test_mixed_load_and_overload_lose_and_miscount_nothing(tmp_path: Path) -> None:
    pool = make_pool(num_short=200, num_long=4, num_heavy=800)

    seen = soak(Plan(steady=3.0, capacity=1.0, overload=1.0, recovery=0.5), pool, tmp_path)

    assert dict(seen.calls.problems) == {}
    assert [goal for goal in correctness(seen, tmp_path / "usage") if not goal.is_met] == []
    asked = {kind for kind, _ in seen.calls.statuses}
    # Whether so short an overload fills the queue is up to the machine: a longer soak looks at that.
    assert asked >= {"short", "batch", "cached", "wrong", "heavy"}
