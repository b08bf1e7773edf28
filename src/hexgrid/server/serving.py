"""Where we listen, and uvicorn around the application."""

import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics
from hexgrid.server.connection import http_options
from hexgrid.server.draining import DrainingServer
from hexgrid.server.tls import Certificates
from hexgrid.server.unix_socket import UnixListener, mode_of

_HOST, _PORT = "127.0.0.1", 8000
_BACKLOG = 2048


def refuse_open_door(config: ServerConfig) -> None:
    """Without a key only this machine may ask, unless the operator says otherwise.

    A unix socket is guarded by the permissions of its file.

    Raises:
        ConfigError: the server would be open to the network.
    """
    if config.has_keys() or config.allow_anonymous or config.uds or _is_loopback(config.host):
        return
    raise ConfigError(
        f"--host {config.host} is reachable from other machines and no API key is set. Set "
        "HEXGRID_API_KEY, --api-key-file or --key-store, or say --allow-anonymous to serve anybody",
        param="host",
    )


def bind(config: ServerConfig) -> socket.socket:
    """A bound socket that does not listen yet: a taken address shows before any model is loaded.

    Raises:
        ConfigError: the address cannot be had, or two are given.
    """
    if config.uds is not None:
        for flag, value in (("--host", config.host), ("--port", config.port)):
            if value is not None:
                raise ConfigError(
                    f"--uds {config.uds} and {flag} {value} are two places to listen; give one",
                    param="uds",
                )
        return UnixListener(config.uds, mode_of(config.uds_mode))
    if config.uds_mode is not None:
        raise ConfigError("--uds-mode goes with --uds, which is not given", param="uds_mode")
    return _bind_port(
        _HOST if config.host is None else config.host,
        _PORT if config.port is None else config.port,
    )


def new_server(
    app: ASGIApp,
    config: ServerConfig,
    metrics: Metrics,
    certificates: Certificates | None,
    on_stop: Callable[[], None],
) -> DrainingServer:
    """uvicorn as we run it; `on_stop` is called when it is told to stop, before it listens no more.

    No header of a proxy is trusted: who asks is who has a key.
    """
    return DrainingServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            log_config=None,  # logs.py takes what it says
            log_level=config.log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_context_factory=(
                None if certificates is None else lambda _, __: certificates.context
            ),
            **http_options(config, metrics),
        ),
        drain_delay=config.drain_delay,
        drain_timeout=config.drain_timeout,
        on_stop=on_stop,
    )


def url_of(listener: socket.socket, *, scheme: str = "http") -> str:
    """Where clients on this machine reach the socket; through a unix socket any host will do."""
    if isinstance(listener, UnixListener):
        return f"{scheme}://localhost"
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bind_port(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host} port {port}: {error}; "
            "is another server running? Choose another --port",
            param="port",
        ) from error
    return listener


def _is_loopback(host: str | None) -> bool:
    if host in (None, "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
