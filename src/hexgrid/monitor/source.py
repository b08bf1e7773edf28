"""The /metrics of a server over HTTP, read again and again; says what is wrong and whether it may pass."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

from hexgrid.errors import ConfigError, RemoteError, UnreachableError
from hexgrid.monitor.reading import Change, Reading, parse

_TIMEOUT_SECONDS = 10.0
# Always there; no other server has it.
_MARK = "hexgrid_build_info"
# A proxy whose server is gone, a server that starts or stops, a limit that is used up.
_PASSING = (429, 500, 502, 503, 504)


@contextmanager
def opened_source(url: str, key: str | None) -> Iterator["Source"]:
    """The server at `url`, with or without the /v1 of its API, while the block runs.

    Raises:
        ConfigError: that is no URL, or the key cannot be sent.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is no URL; it must be such as http://127.0.0.1:8000")
    base = url.rstrip("/").removesuffix("/metrics").removesuffix("/v1").rstrip("/")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        client = httpx2.Client(headers=headers, timeout=_TIMEOUT_SECONDS)
    except UnicodeEncodeError:
        raise ConfigError("The API key holds characters that no header can carry") from None
    with client:
        yield Source(client, base)


class Source:
    """See `opened_source`."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self.url = url
        self._client = client
        self._was_hexgrid = False

    def read(self) -> Reading:
        """What it says now.

        Raises:
            UnreachableError: nothing at the moment; it may answer later.
            RemoteError: it wants another key, or is no hexgrid.
        """
        try:
            response = self._client.get(f"{self.url}/metrics")
        except httpx2.TransportError as error:
            raise UnreachableError(
                f"{self.url} cannot be reached: {type(error).__name__}: {error}"
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RemoteError(f"{self.url} cannot be asked: {error}") from error
        at = time.monotonic()
        if response.status_code in (401, 403):
            raise RemoteError(
                f"{self.url} wants a valid key: set HEXGRID_API_KEY or --api-key, or start the server with "
                "--public-metrics"
            )
        if response.status_code in _PASSING:
            raise UnreachableError(f"{self.url} answered {response.status_code}")
        return self._parsed(response, at)

    def _parsed(self, response: httpx2.Response, at: float) -> Reading:
        try:
            reading = parse(response.text, at) if response.status_code == 200 else None
        except ValueError:
            reading = None
        if reading is None or _MARK not in reading.samples:
            # Once it was one, this is something that stands in for it while it is away.
            error = UnreachableError if self._was_hexgrid else RemoteError
            raise error(
                f"{self.url}/metrics is not that of a hexgrid server (status {response.status_code}); "
                "the URL must be such as http://127.0.0.1:8000"
            )
        self._was_hexgrid = True
        return reading


def changes(
    read: Callable[[], Reading], wait: Callable[[], None]
) -> Iterator[Change | UnreachableError]:
    """What changed in each interval, or why it is not known; `wait` lasts an interval.

    Raises:
        RemoteError: what will not pass.
    """
    before: Reading | None = None
    while True:
        try:
            after = read()
        except UnreachableError as error:
            yield error
        else:
            if before is not None:
                yield Change(before, after)
            before = after
        wait()
