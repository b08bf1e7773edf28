"""A listening socket and uvicorn around the application: start, drain on SIGTERM, stop."""

import ipaddress
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError

_BACKLOG = 2048


def refuse_open_door(config: ServerConfig) -> None:
    """Without a key only this machine may ask, unless the operator says otherwise.

    Raises:
        ConfigError: the server would be open to the network.
    """
    if config.has_keys() or config.allow_anonymous or _is_loopback(config.host):
        return
    raise ConfigError(
        f"--host {config.host} is reachable from other machines and no API key is set. Set "
        "HEXGRID_API_KEY, --api-key-file or --key-store, or say --allow-anonymous to serve anybody",
        param="host",
    )


def bind(config: ServerConfig) -> socket.socket:
    """A bound socket that does not listen yet: a taken port shows before any model is loaded.

    Raises:
        ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {config.host} port {config.port}: {error}; "
            "is another server running? Choose another --port",
            param="port",
        ) from error
    return listener


def serve(app: ASGIApp, config: ServerConfig, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those that run and return.

    A second SIGINT stops at once.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            log_level=config.log_level,
            access_log=config.log_level == "debug",
            server_header=False,
            proxy_headers=False,  # who asks is who has a key
            timeout_graceful_shutdown=max(1, round(config.drain_timeout)),
        )
    )
    # uvicorn puts this handler in place itself, but later, and sends itself the signal again once it has
    # drained: a signal that comes before that is not lost, and the one after it changes nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])


def url_of(listener: socket.socket) -> str:
    """Where clients on this machine reach the socket."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
