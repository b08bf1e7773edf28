"""One replica of a model: our own engine, with its own queue, behind a call of Ray Serve."""

import asyncio
import logging
import os
import sys
from typing import Any

import numpy as np

from hexgrid.engine.native import open_model
from hexgrid.engine.sequence import Salt
from hexgrid.errors import (
    EngineClosedError,
    EngineUnwellError,
    HexgridError,
    NonFiniteError,
    OverloadedError,
)
from hexgrid.metrics import Metrics
from hexgrid.scale.autoscaling import QUEUED_TOKENS
from hexgrid.scale.calls import Ids, Reply, num_tokens, unpacked
from hexgrid.scale.config import Model, ScaleConfig, engine_config, server_config
from hexgrid.server.ending import EXIT_CODE
from hexgrid.server.logs import Logs

_logger = logging.getLogger(__name__)


class ModelReplica:
    """What Ray Serve makes on a node; an error here is a deployment that fails, with its message."""

    def __init__(self, config: ScaleConfig, model: Model) -> None:
        self._logs = Logs(server_config(config, os.environ), sys.stderr)
        self._metrics = Metrics()
        self._model = open_model(
            model.served_names,
            model.model,
            engine_config(config, model, os.environ),
            self._metrics,
            report=_logger.info,
        )
        self._engine = self._model.engine
        # Nothing but a new process helps then, and Ray Serve starts one.
        self._engine.death.add_done_callback(lambda _: os._exit(EXIT_CODE))
        self._num_tokens = 0

    async def embed(self, ids: Ids, salt: Salt) -> Reply:
        """Compute; never raises what another replica could mend."""
        tokens = num_tokens(ids)
        self._num_tokens += tokens
        try:
            future = self._engine.submit(unpacked(ids), salt=salt)
            vectors = await asyncio.wrap_future(future)
        except HexgridError as error:
            return self._refusal(error, ids)
        finally:
            self._num_tokens -= tokens
        return Reply(vectors)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For Ray Serve's autoscaler: tokens that wait or run here."""
        return {QUEUED_TOKENS: self._num_tokens}

    def check_health(self) -> None:
        """For Ray Serve, which replaces a replica that raises some times in a row."""
        self._engine.check_health()

    def is_well(self) -> bool:
        """For the ingress: whether a call would be taken."""
        try:
            self._engine.check_health()
        except HexgridError:
            return False
        return True

    def exposition(self) -> tuple[int, bytes]:
        """The process's id, and what it counts, as /metrics has it."""
        return os.getpid(), self._metrics.text()

    def _refusal(self, error: HexgridError, ids: Ids) -> Reply:
        if isinstance(error, OverloadedError):
            return Reply(None, "busy", error.message, error.retry_after)
        if isinstance(error, EngineClosedError | EngineUnwellError):
            return Reply(None, "unwell", error.message)
        if isinstance(error, NonFiniteError) and len(unpacked(ids)) == 1:
            return Reply(np.full((1, self._engine.hidden_size), np.nan, dtype=np.float32))
        return Reply(None, "refused", error.message)

    def __del__(self) -> None:
        """Ray Serve has let what ran here end before."""
        engine: Any = getattr(self, "_engine", None)
        if engine is not None and not engine.death.done():
            engine.close()
            self._logs.close()
