"""Where a server is and how it is spoken to: what Client and AsyncClient have in common, but the I/O."""

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from hexgrid.client.batching import Limits
from hexgrid.client.job import EmbedJob
from hexgrid.client.options import Inputs, fields_of, input_list
from hexgrid.client.peer import Peer
from hexgrid.client.progress import OnProgress
from hexgrid.config.settings import Secret
from hexgrid.config.sources import URL_VARIABLE
from hexgrid.errors import ConfigError, DeadlineError, HexgridError, RemoteError, UnreachableError

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "HEXGRID_API_KEY"
_CONNECT_SECONDS = 10.0


class Connection(ABC):
    """A server's address, and the limits of what is asked of it.

    `base_url` is a bare address, or one with the path that /embeddings follows, such as /v1; it comes from
    HEXGRID_BASE_URL where none is given, the key from HEXGRID_API_KEY. `timeout` is how many seconds the
    server may be silent before a request is given up, and sent again at most `max_retries` times.
    `concurrency` requests of one client run at a time; each has about `max_batch_tokens` tokens and at most
    `max_batch_inputs` inputs, and fewer where the server says so. `uds` is a unix socket to use.
    `ssl_ca_certs` is a file of the authorities to trust, and `ssl_context` whatever else TLS needs.

    Raises:
        ConfigError: a value cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float = 600.0,
        max_retries: int = 5,
        concurrency: int = 4,
        max_batch_tokens: int = 8192,
        max_batch_inputs: int = 2048,
        uds: str | Path | None = None,
        ssl_ca_certs: str | Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        _check_at_least(0, max_retries=max_retries)
        _check_at_least(
            1,
            concurrency=concurrency,
            max_batch_tokens=max_batch_tokens,
            max_batch_inputs=max_batch_inputs,
        )
        if not timeout > 0:  # so written, it refuses NaN, too
            raise ConfigError(f"timeout must be more than 0 seconds, got {timeout}")
        given = base_url or os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL
        self.base_url = _api_url(given)
        self.model = model
        self._key = _key(api_key, os.environ)
        self._timeout = timeout
        self._concurrency = concurrency
        limits = Limits(max_tokens=max_batch_tokens, max_inputs=max_batch_inputs)
        self._peer = Peer(self.base_url, limits, max_retries)
        self._uds = None if uds is None else str(uds)
        self._open(_tls(self.base_url, ssl_ca_certs, ssl_context))

    def __repr__(self) -> str:
        where = f"{self.base_url!r}" + ("" if self._uds is None else f", uds={self._uds!r}")
        return f"{type(self).__name__}({where}, model={self.model!r})"

    @abstractmethod
    def _open(self, tls: ssl.SSLContext) -> None:
        """Make httpx2's client of `_http_options`, on `uds` if there is one."""

    def _http_options(self) -> dict[str, Any]:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key.value}"
        connect = min(self._timeout, _CONNECT_SECONDS)
        return {
            "headers": headers,
            "timeout": httpx2.Timeout(self._timeout, connect=connect, pool=None),
        }

    def _socket_options(self, tls: ssl.SSLContext) -> dict[str, Any]:
        most = self._concurrency
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
        return {"verify": tls, "limits": limits}

    def _job(
        self, inputs: Inputs, options: Mapping[str, Any], on_progress: OnProgress
    ) -> tuple[EmbedJob, int]:
        """The work of a call, and how many workers it may need."""
        fields = fields_of(options)
        if self.model is not None:
            fields.setdefault("model", self.model)
        job = EmbedJob(input_list(inputs), fields, self._peer, on_progress)
        return job, min(self._concurrency, job.num_requests)


def sending_error(error: Exception, url: str) -> HexgridError:
    """What it means that a request could not be sent, or its answer not be read."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, httpx2.ConnectTimeout):
        return UnreachableError(f"{url} cannot be reached: {what}")
    if isinstance(error, httpx2.TimeoutException):
        return DeadlineError(f"{url} did not answer in time ({what})")
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RemoteError(
                f"{url} cannot be trusted: {cause.verify_message}. Name its authority with ssl_ca_certs"
            )
    if isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError | httpx2.ProxyError):
        return UnreachableError(f"{url} cannot be reached: {what}")
    return RemoteError(f"{url} cannot be asked: {what}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")


def _api_url(given: str) -> str:
    """The address that /embeddings follows: as it is if it has a path, else with that of hexgrid's API."""
    try:
        url = httpx2.URL(given)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"The server's address is no URL: {error}") from None
    if url.userinfo:
        raise ConfigError("The server's address holds a password; give the key as api_key instead")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigError(
            f"The server's address must be such as {DEFAULT_URL} or {DEFAULT_URL}/v1, got {given!r}"
        )
    return given.rstrip("/") if url.path.strip("/") else f"{given.rstrip('/')}/v1"


def _key(given: str | None, environ: Mapping[str, str]) -> Secret | None:
    key = given if given is not None else environ.get(KEY_VARIABLE, "")
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("The API key holds characters that no header can carry")
    return Secret(key) if key else None


def _tls(url: str, ca_certs: str | Path | None, context: ssl.SSLContext | None) -> ssl.SSLContext:
    if ca_certs is not None and context is not None:
        raise ConfigError("Give ssl_ca_certs or ssl_context, not both: the context has its own")
    if context is not None:
        return context
    if ca_certs is not None:
        try:
            return ssl.create_default_context(cafile=ca_certs)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ssl_ca_certs {ca_certs} cannot be read: {error}") from error
    if url.startswith("https:"):
        return httpx2.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused: spares reading all authorities
