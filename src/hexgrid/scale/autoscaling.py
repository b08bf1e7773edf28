"""How many replicas a model gets: as many as keep its queues at their target.

Ray's controller runs this, so it needs nothing but the standard library.
"""

from typing import Any

QUEUED_TOKENS = "queued_tokens"  # what a replica reports


class QueuedTokensPolicy:
    """A policy of Ray Serve, which keeps to the bounds and delays of the deployment by itself."""

    def __init__(self, target_queued_tokens: int) -> None:
        """So many tokens may wait or run in a replica, on average over replicas and time."""
        self._target = target_queued_tokens

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """How many replicas are wanted, not yet rounded up, and no state."""
        reported = (context.aggregated_metrics or {}).get(QUEUED_TOKENS, {})
        if not reported:  # none has said anything yet
            return float(context.target_num_replicas), {}
        # Those that have just started and say nothing yet have nothing.
        return sum(reported.values()) / self._target, {}
