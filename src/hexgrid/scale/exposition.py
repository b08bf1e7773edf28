"""What all processes of a deployment count, as one /metrics: each sample with the replica that it is of.

Whichever ingress is asked, it asks all, so that a series does not jump between processes.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_SECONDS = 5.0  # that a replica may take to say what it counts

_logger = logging.getLogger(__name__)


class _Merged(Collector):
    """A collector of prometheus_client over what several processes said."""

    def __init__(self, said: Iterable[tuple[str, bytes]]) -> None:
        self._said = said

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in self._said:
            for family in text_string_to_metric_families(text.decode()):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = sample.labels | {"replica": replica}
                    merged.add_sample(sample.name, labels, sample.value)
        return families.values()


def merged(said: Iterable[tuple[str, bytes]]) -> bytes:
    """Expositions of several processes as one; `said` has the name of each."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(said))
    return generate_latest(registry)


async def exposition(handles: Iterable["tuple[str, DeploymentHandle[Any]]"]) -> bytes:
    """Of every replica of these deployments; one that does not answer is left out, and logged."""
    answers = await asyncio.gather(*(_ask(name, handle) for name, handle in handles))
    return merged(said for answer in answers for said in answer)


async def _ask(name: str, handle: "DeploymentHandle[Any]") -> list[tuple[str, bytes]]:
    from ray.exceptions import RayError  # noqa: PLC0415 (an extra)
    from ray.serve.exceptions import RayServeException  # noqa: PLC0415

    try:
        answers = await handle.broadcast("exposition").results_async(
            timeout_s=_SECONDS, return_exceptions=True
        )
    except (RayError, RayServeException, TimeoutError) as error:
        _logger.warning("What %s counts is not known: %s", name, type(error).__name__)
        return []
    known = [answer for answer in answers if not isinstance(answer, BaseException)]
    if len(known) < len(answers):
        _logger.warning(
            "%d replicas of %s do not say what they count", len(answers) - len(known), name
        )
    return [(f"{name}:{replica}", text) for replica, text in known]
