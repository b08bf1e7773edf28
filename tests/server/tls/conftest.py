"""Authorities, their files, and a server that follows them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from hexgrid.config import ServerConfig
from hexgrid.server.tls import Certificates
from tests.server.certificates import Files

POLL_SECONDS = 0.01


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    """Another authority."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    files = Files(tmp_path / "server")
    files.write(authority)
    return files


@pytest.fixture
def follow(files: Files) -> Iterator[Callable[..., Certificates]]:
    """Opens `files`, and perhaps more settings, to be followed quickly until the test ends."""
    opened = []

    def open_files(**settings: Any) -> Certificates:
        config = ServerConfig(ssl_certfile=files.cert, ssl_keyfile=files.key, **settings)
        opened.append(Certificates(config, poll_seconds=POLL_SECONDS))
        return opened[-1]

    yield open_files
    for certificates in opened:
        certificates.close()
