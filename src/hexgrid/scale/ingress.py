"""One replica that answers HTTP: the server's own application, whose engines are replicas elsewhere."""

import asyncio
import math
import os
import sys
from collections.abc import Mapping
from collections.abc import Sequence as Items
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from hexgrid.engine.remote_engine import RemoteEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.served_model import ServedModel, open_front
from hexgrid.errors import HexgridError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.model.checkpoint import open_outline
from hexgrid.model.hub import OUTLINE_FILES, resolve
from hexgrid.scale.config import (
    Model,
    ScaleConfig,
    engine_config,
    refuse_open_door,
    server_config,
)
from hexgrid.scale.exposition import exposition
from hexgrid.scale.replicas import Replicas
from hexgrid.scale.request_ids import ProxyRequestIds
from hexgrid.server.app import create_app
from hexgrid.server.logs import Logs
from hexgrid.server.registry import Models

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

# Tokens of one call, where no setting says how many a replica's batch has: as many as one has by default.
_CPU_CALL_TOKENS, _GPU_CALL_TOKENS = 1024, 16_384
# One ingress alone fills the queue of a replica to so many times its target.
_TARGETS_AHEAD = 2
_READY_SECONDS, _ASK_SECONDS = 60.0, 0.1


class Ingress:
    """What Ray Serve makes; `serve.ingress` takes the application from it."""

    def __init__(self, config: ScaleConfig, handles: "Mapping[str, DeploymentHandle[Any]]") -> None:
        """`handles` has one for the first name of each model.

        Done when each model can answer, for from then on Ray sends requests, and may stop an older ingress;
        but not much later, as other models can be asked while one is ill.
        """
        settings = server_config(config, os.environ)
        refuse_open_door(settings)
        self._handles = handles
        self._metrics = Metrics()
        self._logs = Logs(settings, sys.stderr)
        models = [self._open(config, model, settings.request_timeout) for model in config.models]
        self._app = create_app(
            Models(models),
            settings,
            self._metrics,
            self._logs.requests,
            exposition=self._exposition,
        )
        _wait_until_ready(models)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return ProxyRequestIds(self._app)

    def exposition(self) -> tuple[int, bytes]:
        """The process's id, and what it counts."""
        return os.getpid(), self._metrics.text()

    def _open(self, config: ScaleConfig, model: Model, request_timeout: float) -> ServedModel:
        """The model without its weights."""
        settings = engine_config(config, model, os.environ)
        directory = resolve(
            model.model,
            revision=settings.revision,
            download_dir=settings.download_dir,
            files=OUTLINE_FILES,
        )
        front = open_front(open_outline(directory), settings.max_model_len)
        names = model.served_names
        metrics = ModelMetrics(self._metrics, names[0])
        replicas = Replicas(
            self._handles[names[0]], front.hidden_size, call_seconds=request_timeout
        )
        call_tokens = settings.max_num_batched_tokens or (
            _GPU_CALL_TOKENS if model.num_gpus else _CPU_CALL_TOKENS
        )
        engine = RemoteEngine(
            replicas,
            Scheduler(max_num_batched_tokens=call_tokens, max_num_seqs=settings.max_num_seqs),
            metrics,
            loop=asyncio.new_event_loop(),
            max_calls=model.max_ongoing_requests,
            batches_ahead=_batches_ahead(model, call_tokens),
            results=ResultCache(settings.result_cache_bytes),
            max_num_queued_tokens=settings.max_num_queued_tokens,
        )
        return front.serving(
            names,
            model.model,
            engine,
            metrics,
            precision=settings.dtype if settings.quantization == "none" else settings.quantization,
            max_num_batched_tokens=call_tokens,
            description=f"replicas of Ray Serve, {front.hidden_size} dimensions",
        )

    async def _exposition(self) -> bytes:
        from ray import serve  # noqa: PLC0415 (an extra)

        context = serve.get_replica_context()
        own = serve.get_deployment_handle(context.deployment, context.app_name)
        return await exposition([("ingress", own), *self._handles.items()])


def _wait_until_ready(models: Items[ServedModel]) -> None:
    deadline = monotonic() + _READY_SECONDS
    while not all(map(_is_ready, models)) and monotonic() < deadline:
        sleep(_ASK_SECONDS)


def _is_ready(model: ServedModel) -> bool:
    try:
        model.engine.check_health()
    except HexgridError:
        return False
    return True


def _batches_ahead(model: Model, call_tokens: int) -> int:
    """So many that a replica's queue can pass its target, for more replicas to come; the rest waits here."""
    return max(2, math.ceil(_TARGETS_AHEAD * model.target_queued_tokens / call_tokens))
