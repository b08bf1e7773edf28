"""What /metrics said at a moment, and what changed between two of them: the arithmetic of Prometheus."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Reading:
    """All samples, by name and labels; `at` is in seconds of a clock that only goes forward."""

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    def matching(self, name: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """The samples of a name that have these labels, perhaps among others."""
        wanted = labels.items()
        return (each for each in self.samples.get(name, {}).items() if wanted <= set(each[0]))

    def total(self, name: str, **labels: str) -> float | None:
        """Their sum; None where there are none."""
        values = [value for _, value in self.matching(name, **labels)]
        return sum(values) if values else None

    def values_of(self, label: str, name: str, **labels: str) -> list[str]:
        """What a label of these samples is, each value once, in the server's order."""
        found = (dict(has).get(label) for has, _ in self.matching(name, **labels))
        return list(dict.fromkeys(value for value in found if value is not None))


@dataclass(frozen=True)
class Change:
    """From one reading to a later one of the same server, which may have been started anew meanwhile."""

    before: Reading
    after: Reading

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    def increase(self, name: str, **labels: str) -> float:
        """By how much counters grew, added up; one that fell has begun again at 0."""
        old = self.before.samples.get(name, {})
        pairs = ((new, old.get(has, 0.0)) for has, new in self.after.matching(name, **labels))
        return sum(new - before if new >= before else new for new, before in pairs)

    def rate(self, name: str, **labels: str) -> float:
        """The same a second."""
        return self.increase(name, **labels) / self.seconds

    def mean(self, histogram: str, **labels: str) -> float | None:
        """Of what was observed meanwhile; None when nothing was."""
        count = self.increase(f"{histogram}_count", **labels)
        return self.increase(f"{histogram}_sum", **labels) / count if count else None

    def quantile(self, share: float, histogram: str, **labels: str) -> float | None:
        """As histogram_quantile has it, of what was observed meanwhile; None when nothing was.

        Observations are taken to lie evenly in their bucket; one past the last bound counts as that bound.
        """
        name = f"{histogram}_bucket"
        counts: dict[float, float] = defaultdict(float)
        for bound in self.after.values_of("le", name, **labels):
            counts[float(bound)] += self.increase(name, le=bound, **labels)
        return _quantile(share, sorted(counts.items()))


def parse(text: str, at: float) -> Reading:
    """An answer of /metrics.

    Raises:
        ValueError: it is not in the exposition format.
    """
    samples: dict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name][frozenset(sample.labels.items())] = sample.value
    return Reading(at, dict(samples))


def _quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """`buckets` are upper bounds and how many observations are at or below each, ascending."""
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return (
                low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
            )
        low, below = bound, count
    return low
