"""What a server says of itself: health, models, version, metrics, its own API description."""

import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from hexgrid import __version__
from hexgrid.engine.protocols import Engine
from hexgrid.errors import HexgridError
from hexgrid.metrics import Metrics
from hexgrid.server.auth import client_of
from hexgrid.server.openapi import openapi_document
from hexgrid.server.registry import Models
from hexgrid.server.tokenization import json_response
from hexgrid.wire import ModelCard, ModelList, ModelPermission, Version

# What is counted, by this process and others, in Prometheus' text form.
Exposition = Callable[[], Awaitable[bytes]]


class StatusRoutes:
    """The endpoints that embed nothing."""

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        root_path: str,
        exposition: Exposition | None = None,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._exposition = exposition
        for model in models:
            model.metrics.ready.set_function(partial(_readiness, model.engine))
        self._openapi = openapi_document(root_path)

    async def live(self, _: Request) -> Response:
        """200 while the process answers at all, and none of its engines is dead."""
        self._models.check_alive()
        return Response()

    async def ready(self, _: Request) -> Response:
        """200 when every engine can answer, else the error that says why not (also /health, /ping)."""
        self._models.check_health()
        return Response()

    async def version(self, _: Request) -> Response:
        return json_response(Version(version=__version__))

    async def models(self, request: Request) -> Response:
        """One entry a served name that the client may use, aliases too."""
        created = int(time.time())
        cards = [
            ModelCard(
                id=name,
                created=created,
                root=model.root,
                max_model_len=model.max_model_len,
                embedding_dimension=model.embedding_dimension,
                permission=[
                    ModelPermission(id=f"modelperm-{uuid.uuid4().hex[16:]}", created=created)
                ],
            )
            for model in self._models.allowed(client_of(request.scope))
            for name in model.names
        ]
        return json_response(ModelList(data=cards))

    async def metrics(self, _: Request) -> Response:
        text = self._metrics.text() if self._exposition is None else await self._exposition()
        return Response(text, media_type="text/plain; version=1.0.0; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")


def _readiness(engine: Engine) -> float:
    """1 when the engine can answer, else 0."""
    try:
        engine.check_health()
    except HexgridError:
        return 0.0
    return 1.0
