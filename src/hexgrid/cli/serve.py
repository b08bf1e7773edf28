"""hexgrid serve: load, say what is served, answer until told to stop."""

import atexit
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from hexgrid.cli import exit_code
from hexgrid.cli.options import config_options, hide_secrets
from hexgrid.config import EngineConfig, ServerConfig, UpstreamConfig
from hexgrid.config.sources import load
from hexgrid.errors import HexgridError
from hexgrid.garbage import made_to_stay

if TYPE_CHECKING:
    from hexgrid.server.draining import DrainingServer
    from hexgrid.server.logs import Logs
    from hexgrid.server.registry import Models
    from hexgrid.server.tls import Certificates

_logger = logging.getLogger(__name__)


@click.command()
@click.argument("model", nargs=-1)
@config_options(ServerConfig, EngineConfig, UpstreamConfig, without=("model",))
def command(**flags: Any) -> None:
    """Serve embeddings over HTTP.

    MODEL is a directory in Hugging Face layout, a hub id such as Qwen/Qwen3-Embedding-0.6B, or NAME=either;
    several are served side by side and chosen by the request's `model`. Without MODEL the embedded model
    hexgrid/nano is served.
    """
    config = load(ServerConfig, flags, os.environ)
    hide_secrets(
        *config.api_key,
        config.ssl_keyfile_password,
        config.upstreams.upstream_api_key,
        config.rate_limit_store,
    )
    from hexgrid.server.core_dumps import refuse_core_dumps
    from hexgrid.server.logs import Logs

    logs = Logs(config, sys.stderr)
    atexit.register(logs.close)
    if not config.allow_core_dumps:
        refuse_core_dumps()
    from hexgrid.server.cors import cors_origins
    from hexgrid.server.root_path import root_path_of
    from hexgrid.server.serving import bind, refuse_open_door
    from hexgrid.server.tls import certificates_of

    try:
        refuse_open_door(config)
        root_path_of(config)
        cors_origins(config)
        certificates = certificates_of(config)
        with bind(config) as listener:
            _end_at_signals(listener)
            sys.exit(_load_and_serve(config, certificates, listener, logs))
    except HexgridError as error:
        if config.log_format == "console":
            raise
        _logger.critical(error.message)
        sys.exit(exit_code(error))


def _end_at_signals(listener: socket.socket) -> None:
    """While nothing is served yet, nobody is waited for: neither a model that loads nor a download."""

    def end(number: int, _: FrameType | None) -> None:
        listener.close()
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _load_and_serve(
    config: ServerConfig,
    certificates: "Certificates | None",
    listener: socket.socket,
    logs: "Logs",
) -> int:
    """The exit code."""
    with made_to_stay():
        models, server = _load(config, certificates, logs)
    from hexgrid.server.ending import Ending
    from hexgrid.server.serving import url_of

    server.take_signals()
    listener.listen()  # a client may come as soon as it is told where
    url = url_of(listener, scheme="http" if certificates is None else "https")
    _teller(config)(_how_to_ask(config, url, next(iter(models)).name))
    ending = Ending(models, server)
    server.run(sockets=[listener])
    if certificates is not None:
        certificates.close()
    ending.finish()
    return server.exit_code


def _load(
    config: ServerConfig, certificates: "Certificates | None", logs: "Logs"
) -> "tuple[Models, DrainingServer]":
    """The models that are asked for, and a server of them that is yet to run."""
    # Only now: torch takes seconds, and a wrong setting or a taken port should be told at once.
    from hexgrid.cli.models import model_specs, open_spec
    from hexgrid.metrics import Metrics
    from hexgrid.server.app import create_app
    from hexgrid.server.batches.store import BatchStore, room_of
    from hexgrid.server.key_store import KeyStore
    from hexgrid.server.registry import Models, refuse_shared_names
    from hexgrid.server.serving import new_server
    from hexgrid.server.tracing import check_endpoint
    from hexgrid.server.usage import UsageMeter

    tell = _teller(config)
    # Opened again by the application: what is wrong with them should be told before a model is loaded.
    if config.key_store is not None:
        KeyStore(config.key_store).read()
    if config.usage_dir is not None:
        UsageMeter(config.usage_dir).close()
    if config.batch_dir is not None:
        BatchStore(config.batch_dir, room_of(config)).close()
    if config.otlp_traces_endpoint is not None:
        check_endpoint(config.otlp_traces_endpoint)
    specs = model_specs(config)
    refuse_shared_names(spec.names for spec in specs)
    metrics = Metrics()
    models = Models([open_spec(spec, config, metrics, tell) for spec in specs])
    app = create_app(models, config, metrics, logs.requests)
    server = new_server(app, config, metrics, certificates, models.drain)
    for model in models:
        tell(f"Serving {' = '.join(model.names)}: {model.description}")
    return models, server


def _teller(config: ServerConfig) -> Callable[[str], None]:
    """How people are told what happens at the start: in the log where that is for machines."""
    from hexgrid.cli.models import say

    if config.log_format == "console":
        return say
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # they are no JSON
    return _logger.info


def _how_to_ask(config: ServerConfig, url: str, model: str) -> str:
    needs_key = config.has_keys()
    access = "a key is required" if needs_key else "no key is required"
    where = url if config.uds is None else f"the unix socket {config.uds}"
    options = []
    if config.uds is not None:
        options.append(f"--unix-socket {shlex.quote(str(config.uds))}")
    if config.ssl_cert_reqs == "required":
        options.append("--cert CERTIFICATE --key KEY")
    if needs_key:
        options.append('-H "Authorization: Bearer $HEXGRID_API_KEY"')
    options.append("-H 'Content-Type: application/json'")
    body = f'{{"model": "{model}", "input": "Hello"}}'
    told = (
        f"Listening on {where} ({access}). Try:\n"
        f"  curl {url}/v1/embeddings {' '.join(options)} -d '{body}'"
    )
    if config.no_console or config.uds is not None:
        return told
    return f"{told}\nor open {url}/ in a browser."
