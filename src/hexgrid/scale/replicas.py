"""The replicas of one model, as the engine of an ingress asks them: see `Remote` in engine/remote_engine.py.

Ray Serve chooses the replica and knows which ones live. What a replica was computing when it died is
computed by another one, since nothing but time is lost; but only so often, as it may be the input that kills.
"""

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from time import monotonic
from typing import TYPE_CHECKING, Any

from hexgrid.encoding import Vectors
from hexgrid.engine.remote_engine import InputsRefusedError, RemoteBusyError, RemoteDownError
from hexgrid.engine.sequence import Salt
from hexgrid.scale.calls import Reply, packed
from hexgrid.wire import TokenIds

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

# A call is tried on so many replicas, so that an input that kills costs no more than these.
_MOST_TRIES = 3
_FIRST_PAUSE = 0.1  # seconds before the second try, doubled before each later one
_ASK_SECONDS, _ANSWER_SECONDS = 1.0, 5.0
# So long calls wait for a replica to start before everyone is told that there is none.
_DOWN_SECONDS = 10.0

_logger = logging.getLogger(__name__)


class Replicas:
    """See `Remote`."""

    def __init__(
        self, handle: "DeploymentHandle[Any]", hidden_size: int, *, call_seconds: float
    ) -> None:
        """A call that takes longer than `call_seconds` is given up."""
        self.hidden_size = hidden_size
        self._handle = handle
        self._call_seconds = call_seconds
        self._num_well = 0
        self._well_at = -_DOWN_SECONDS

    @property
    def num_workers(self) -> int:
        """See `Remote.num_workers`; one at least, as Ray Serve lets calls wait for one that starts."""
        return max(1, self._num_well)

    @property
    def is_down(self) -> bool:
        """See `Remote.is_down`."""
        return self._num_well == 0 and monotonic() - self._well_at >= _DOWN_SECONDS

    async def watch(self, on_change: Callable[[], None]) -> str:
        """See `Remote.watch`; some replica may always start, so this does not end."""
        while True:
            self._num_well = await self._count()
            if self._num_well:
                self._well_at = monotonic()
            on_change()
            await asyncio.sleep(_ASK_SECONDS)

    async def compute(self, token_ids: Items[TokenIds], salt: Salt) -> Vectors:
        """See `Remote.compute`."""
        ids, pause = packed(token_ids), _FIRST_PAUSE
        for _ in range(_MOST_TRIES - 1):
            reply = await self._ask(ids, salt)
            if reply.refusal != "unwell":
                break
            _logger.warning("A replica could not compute, another is asked: %s", reply.message)
            await asyncio.sleep(pause)
            pause *= 2
        else:
            reply = await self._ask(ids, salt)
        if reply.vectors is not None:
            return self._checked(reply.vectors, len(token_ids))
        if reply.refusal == "busy":
            raise RemoteBusyError(reply.retry_after)
        if reply.refusal == "refused":
            raise InputsRefusedError(reply.message)
        _logger.error("No replica could compute: %s", reply.message)
        raise RemoteDownError

    def close(self) -> None:
        """See `Remote.close`; Ray Serve ends replicas by itself."""

    async def _ask(self, ids: Any, salt: Salt) -> Reply:
        """One replica's answer; one that dies or cannot be reached is unwell."""
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 (an extra)
        from ray.serve.exceptions import BackPressureError, RayServeException  # noqa: PLC0415

        response = self._handle.embed.remote(ids, salt)
        try:
            async with asyncio.timeout(self._call_seconds):
                reply: Reply = await response
        except BackPressureError:
            return Reply(None, "busy", "too many calls wait")
        except RayTaskError as error:
            return Reply(None, "refused", f"a bug in the replica: {error.cause!r}")
        except (RayError, RayServeException) as error:
            return Reply(None, "unwell", type(error).__name__)
        except TimeoutError:
            response.cancel()
            return Reply(None, "unwell", f"no answer within {self._call_seconds:g} s")
        except asyncio.CancelledError:
            response.cancel()
            raise
        return reply

    async def _count(self) -> int:
        """How many replicas would take a call."""
        from ray.exceptions import RayError  # noqa: PLC0415
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415

        try:
            answers = await self._handle.broadcast("is_well").results_async(
                timeout_s=_ANSWER_SECONDS, return_exceptions=True
            )
        except (RayError, RayServeException):  # there is none
            return 0
        except TimeoutError:  # one of them is too busy to say: as many as before
            return self._num_well
        return sum(answer is True for answer in answers)

    def _checked(self, vectors: Vectors, num_inputs: int) -> Vectors:
        expected = (num_inputs, self.hidden_size)
        if vectors.shape != expected:
            raise InputsRefusedError(
                f"a replica gave vectors of the shape {vectors.shape}, and {expected} is right: are its "
                "model and the ingress's the same?"
            )
        return vectors
