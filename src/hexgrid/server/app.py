"""The ASGI application: every path, and the middlewares in front of them."""

from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from hexgrid.config import ServerConfig
from hexgrid.errors import HexgridError
from hexgrid.metrics import Metrics
from hexgrid.server.access_log import RequestLog
from hexgrid.server.auth import LIVENESS_PATHS, AuthMiddleware, Keys
from hexgrid.server.batches.routes import BatchRoutes
from hexgrid.server.batches.store import BatchStore, room_of
from hexgrid.server.batches.worker import BatchWorker
from hexgrid.server.body import BodyReader
from hexgrid.server.console import NAMES, PATHS, console_routes
from hexgrid.server.conversations import Chats
from hexgrid.server.cors import answering_browsers, cors_origins
from hexgrid.server.descriptions import Descriptions
from hexgrid.server.embeddings import EmbeddingPath
from hexgrid.server.errors import on_client_gone, on_hexgrid_error, on_http_exception
from hexgrid.server.followed_store import FollowedStore
from hexgrid.server.forms.paths import FORMS
from hexgrid.server.invocations import Invocations
from hexgrid.server.limits import AdmissionMiddleware, DeadlineMiddleware
from hexgrid.server.rate_limits import RateLimitMiddleware, RateLimits
from hexgrid.server.registry import Models
from hexgrid.server.request_middleware import RequestMiddleware
from hexgrid.server.root_path import RootPathMiddleware, root_path_of
from hexgrid.server.shared_limits import SharedRateLimits
from hexgrid.server.status import Exposition, StatusRoutes
from hexgrid.server.tokenization import TokenizationRoutes
from hexgrid.server.tracing import Tracing
from hexgrid.server.usage import UsageMeter
from hexgrid.server.waiting import ClientGoneError

_EXCEPTION_HANDLERS = {
    HexgridError: on_hexgrid_error,
    HTTPException: on_http_exception,
    ClientDisconnect: on_client_gone,
    ClientGoneError: on_client_gone,
}
# Tokenising runs in Rust without the interpreter lock and is itself parallel over a batch's texts.
_TOKENIZER_THREADS = 2


def create_app(
    models: Models,
    config: ServerConfig,
    metrics: Metrics,
    log: RequestLog | None = None,
    exposition: Exposition | None = None,
) -> Starlette:
    """The application over loaded models; it closes their engines when the server shuts down.

    Requests are logged by `log`, if it is given. /metrics is what `exposition` gives, where other processes
    count as well, else `metrics`.

    Raises:
        ConfigError: a setting of what stands in front of the paths is wrong, the chat template cannot be
            read, or traces cannot be sent.
        KeyStoreError: there is a store of keys, which cannot be read.
        UsageError: usage is to be counted where that is not possible.
        BatchStoreError: batches are to be kept where that is not possible.
    """
    threads = ThreadPoolExecutor(_TOKENIZER_THREADS, thread_name_prefix="hexgrid-tokenize")
    store = None if config.key_store is None else FollowedStore(config.key_store)
    usage = None if config.usage_dir is None else UsageMeter(config.usage_dir)
    tracing = None if config.otlp_traces_endpoint is None else Tracing(config.otlp_traces_endpoint)
    limits = _limits(config)
    bodies = BodyReader(config.max_body_bytes, config.max_json_depth)
    chats = Chats(config.chat_template, trust_requests=config.trust_request_chat_template)
    embeddings = EmbeddingPath(
        models, config, bodies, limits=limits, usage=usage, threads=threads, chats=chats
    )
    tokenization = TokenizationRoutes(models, bodies, threads, chats)
    keys = Keys(config.keys(), store)
    batch_store = batch_worker = None
    if config.batch_dir is not None:
        batch_store = BatchStore(config.batch_dir, room_of(config))
        batch_worker = BatchWorker(
            batch_store,
            keys,
            max_requests=config.max_batch_requests,
            concurrency=config.batch_concurrency,
        )
    batches = BatchRoutes(
        batch_store, batch_worker, bodies, max_file_bytes=config.max_batch_file_bytes
    )
    root_path = root_path_of(config)
    status = StatusRoutes(models, metrics, root_path, exposition)
    described = Descriptions(models, config, embeddings, tokenizer_threads=_TOKENIZER_THREADS)
    embedding_routes = [
        *(Route(path, embeddings.endpoint(form), methods=["POST"]) for path, form in FORMS),
        Route("/invocations", Invocations(embeddings, bodies).invoke, methods=["POST"]),
    ]
    routes = [
        *embedding_routes,
        Route("/load", described.load),
        Route("/info", described.tei_info),
        Route("/api/tags", described.ollama_models),
        Route("/api/version", status.version),
        Route("/v1/models", status.models),
        Route("/v1/files", batches.upload, methods=["POST"]),
        Route("/v1/files", batches.files),
        Route("/v1/files/{file_id}", batches.delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}", batches.file),
        Route("/v1/files/{file_id}/content", batches.content),
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches", batches.batches),
        Route("/v1/batches/{batch_id}", batches.batch),
        Route("/v1/batches/{batch_id}/cancel", batches.cancel, methods=["POST"]),
        Route("/tokenize", tokenization.tokenize, methods=["POST"]),
        Route("/detokenize", tokenization.detokenize, methods=["POST"]),
        Route("/health", status.ready),
        Route("/ping", status.ready, methods=["GET", "POST"]),
        Route("/live", status.live),
        Route("/ready", status.ready),
        Route("/version", status.version),
        Route("/metrics", status.metrics),
        Route("/openapi.json", status.openapi),
    ]

    names = {route.path: route.path for route in routes if "{" not in route.path}
    patterns = [(route.path_regex, route.path) for route in routes if "{" in route.path]
    open_paths = LIVENESS_PATHS | ({"/metrics"} if config.public_metrics else set())
    if not config.no_console:
        routes += console_routes(root_path)
        names |= NAMES
        open_paths |= PATHS

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        if batch_worker is not None:
            batch_worker.start(app)
        yield
        if batch_worker is not None:
            await batch_worker.stop()
        if batch_store is not None:
            batch_store.close()
        models.close()
        threads.shutdown()
        chats.close()
        await limits.close()
        if store is not None:
            store.close()
        if usage is not None:
            usage.close()
        if tracing is not None:
            tracing.close()

    timed_paths = {route.path for route in embedding_routes if not config.hide_server_timing}
    app = Starlette(routes=routes, lifespan=lifespan)
    stack = [
        Middleware(RootPathMiddleware, root_path=root_path),
        Middleware(
            RequestMiddleware,
            metrics=metrics,
            names=names,
            patterns=patterns,
            timed_paths=timed_paths,
            log=log,
            tracing=tracing,
        ),
        Middleware(AuthMiddleware, keys=keys, open_paths=open_paths),
        Middleware(
            AdmissionMiddleware,
            max_requests=config.max_concurrent_requests,
            max_bytes=config.max_concurrent_body_bytes,
            retry_after=models.retry_after,
        ),
        Middleware(RateLimitMiddleware, limits=limits),
        Middleware(DeadlineMiddleware, seconds=config.request_timeout),
        Middleware(ExceptionMiddleware, handlers=_EXCEPTION_HANDLERS),
    ]
    # Outermost: a browser may read even the answer to a bug.
    app.middleware_stack = answering_browsers(_behind(stack, app.router), cors_origins(config))
    return app


def _behind(stack: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    """`app` behind middlewares, outermost first.

    Starlette would put one of its own around them, which answers bugs; ours does.
    """
    for middleware, args, kwargs in reversed(stack):
        app = middleware(app, *args, **kwargs)
    return app


def _limits(config: ServerConfig) -> RateLimits:
    """Counted here, or for all servers that share a store."""
    if config.rate_limit_store is None:
        return RateLimits()
    return SharedRateLimits(config.rate_limit_store, request_timeout=config.request_timeout)
