"""Where an upstream is: an --upstream URL, read and checked."""

from typing import NamedTuple

import httpx2

from hexgrid.errors import ConfigError


class Address(NamedTuple):
    """A server's root, without /v1; through a unix socket where `uds` is its file."""

    url: str
    uds: str | None = None

    def __str__(self) -> str:
        return self.url if self.uds is None else f"unix:{self.uds}"


def parse_address(text: str) -> Address:
    """http://host:8001, the same with /v1 behind it, https, or unix:/path/to/socket.

    Raises:
        ConfigError: it is none of these, or holds a password, which others could read.
    """
    if text.startswith("unix:") and text.removeprefix("unix:").lstrip("/"):
        return Address("http://upstream", "/" + text.removeprefix("unix:").lstrip("/"))
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.userinfo:
        raise ConfigError(
            "--upstream holds a password, which other users of the machine can read. Set "
            "HEXGRID_UPSTREAM_API_KEY instead",
            param="upstream",
        )
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigError(
            f"--upstream {text!r} must be a server's URL, as http://10.0.0.5:8000, or unix:/path/to/socket",
            param="upstream",
        )
    return Address(str(url).rstrip("/").removesuffix("/v1"))
