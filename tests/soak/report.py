"""What a soak showed, beside what it has to show."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hexgrid.server.usage import read
from tests.soak.phases import OVERLOAD, Observed

_WARM_UP = 0.5  # of a phase: allocators, caches and the queue fill
_MOST_GROWTH = 2.0  # percent of memory in the rest of it
_FEWEST_SAMPLES = 10
_MOST_DRIFT = 1.3  # of latency from its first to its last quarter
_REFUSED_P99_MS = 50.0
_RECOVERY_SECONDS = 5.0
_FULL_SPEED = 0.8


@dataclass(frozen=True)
class Goal:
    """One figure and whether it is good enough."""

    name: str
    value: float | None  # None: nothing was measured
    bound: str
    is_met: bool


def correctness(seen: Observed, usage: Path) -> Iterator[Goal]:
    """What has to hold on any machine, however short the soak."""
    problems = seen.calls.problems.total()
    yield Goal("wrong, lost or failed requests", problems, "0", problems == 0)
    good = sum(count for (_, status), count in seen.calls.statuses.items() if status == 200)
    counted = sum(used.requests for used in read(usage).values())
    # A client may have left after its request was counted.
    most = good + seen.calls.num_cancelled
    yield Goal("requests in usage", counted, f"{good} to {most} answered", good <= counted <= most)


def stability(seen: Observed) -> Iterator[Goal]:
    """What takes a while to show."""
    for phase in ("steady", "overload"):
        yield _at_most(f"memory growth, {phase} (%)", _growth_percent(seen, phase), _MOST_GROWTH)
    drift = _drift(seen)
    yield _at_most("latency drift (last quarter / first)", drift, _MOST_DRIFT)
    yield _at_most("429 in overload, p99 (ms)", _refused_p99_ms(seen), _REFUSED_P99_MS)
    yield _at_most("full speed after overload (s)", _recovery(seen), _RECOVERY_SECONDS)


def figures(seen: Observed) -> dict[str, float]:
    """What else is worth knowing."""
    heavy = seen.calls.statuses
    steady = [
        seconds
        for (kind, status), found in seen.calls.latencies.items()
        if (kind, status) == ("short", 200)
        for _, seconds in found
    ]
    return {
        "requests": seen.calls.statuses.total(),
        "requests/s under load": sum(
            seen.began["steady"] <= at < seen.ended["steady"]
            for found in seen.calls.latencies.values()
            for at, _ in found
        )
        / seen.seconds("steady"),
        "short p50 (ms)": 1e3 * float(np.percentile(steady, 50)),
        "short p99 (ms)": 1e3 * float(np.percentile(steady, 99)),
        "most memory before the overload (MB)": _most_memory(seen, "steady", "capacity") / 1e6,
        "most memory in it and after (MB)": _most_memory(seen, "overload", "recovery") / 1e6,
        "capacity (tokens/s)": seen.capacity,
        f"overload, of {OVERLOAD} times that (tokens/s)": seen.overload,
        "longest time between two looks at memory (s)": _longest_gap(seen),
        "heavy answered": heavy["heavy", 200],
        "heavy refused": heavy["heavy", 429],
    }


def _at_most(name: str, value: float | None, most: float) -> Goal:
    return Goal(name, value, f"{most:g}", value is not None and value <= most)


def _growth_percent(seen: Observed, phase: str) -> float | None:
    """Of memory by a straight line through the phase, after its warm-up."""
    start = seen.began[phase] + _WARM_UP * seen.seconds(phase)
    found = [(at, size) for at, size in seen.memory if start <= at < seen.ended[phase]]
    if len(found) < _FEWEST_SAMPLES:
        return None
    times, sizes = np.array(found).T
    slope, _ = np.polyfit(times - times[0], sizes, 1)
    return float(100 * slope * (times[-1] - times[0]) / sizes[0])


def _drift(seen: Observed) -> float:
    """Median latency of short requests in the steady phase's last quarter, as a share of the first's."""
    start, length = seen.began["steady"], seen.seconds("steady")
    found = seen.calls.latencies["short", 200]
    first = [seconds for at, seconds in found if at < start + length / 4]
    last = [seconds for at, seconds in found if at >= start + 3 * length / 4]
    return float(np.median(last) / np.median(first))


def _longest_gap(seen: Observed) -> float:
    """Much more than a tenth of a second: we stood still ourselves, and figures of time mean little."""
    return float(np.diff([at for at, _ in seen.memory]).max())


def _most_memory(seen: Observed, first: str, last: str) -> int:
    """Bytes, from the one phase to the other."""
    return max(size for at, size in seen.memory if seen.began[first] <= at <= seen.ended[last])


def _refused_p99_ms(seen: Observed) -> float | None:
    found = [
        seconds
        for at, seconds in seen.calls.latencies.get(("heavy", 429), [])
        if seen.began["overload"] <= at
    ]
    return 1e3 * float(np.percentile(found, 99)) if found else None


def _recovery(seen: Observed) -> float | None:
    """Seconds from the overload's last answer until heavy requests go at full speed."""
    start = seen.began["recovery"]
    tokens = seen.recovered[0][1] if seen.recovered else 0
    for at, so_far in seen.recovered:
        if so_far - tokens >= _FULL_SPEED * seen.capacity * (at - start) > 0:
            return at - start
    return None
