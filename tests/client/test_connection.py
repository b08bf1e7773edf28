"""Where a client finds its server, by which socket and under which certificates; and that no key is shown."""

from pathlib import Path
from typing import Any

import pytest
import trustme

from hexgrid import AsyncClient, Client
from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, RemoteError, UnreachableError
from hexgrid.metrics import Metrics
from hexgrid.server.tls import Certificates
from tests.cli.hexgrid_process import serve
from tests.client.conftest import each_client
from tests.server.certificates import Files, client_context
from tests.server.running import KEY, serving, serving_https, variant

both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("https://h/under/v1/", "https://h/under/v1"),
        ("https://h/api/v3", "https://h/api/v3"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai"),
    ],
)
def test_a_bare_address_is_of_hexgrids_api_and_a_path_is_kept(
    kind: Any, given: str, url: str
) -> None:
    assert kind(given).base_url == url


@both
def test_variables_say_where_and_with_which_key(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind().base_url == "http://127.0.0.1:8000/v1"
    monkeypatch.setenv("HEXGRID_BASE_URL", "http://elsewhere:1")
    assert kind().base_url == "http://elsewhere:1/v1"
    assert kind("http://here:2").base_url == "http://here:2/v1"


@each_client
def test_the_key_comes_from_the_variable_unless_it_is_given(
    new_client: Any, tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    monkeypatch.setenv("HEXGRID_API_KEY", f" {KEY}\n")
    with serving([variant(tiny_model, metrics, "m")], metrics, api_key=(Secret(KEY),)) as server:
        with new_client(str(server.base_url)) as client:
            assert client.embed("a").shape == (1, 64)
        monkeypatch.setenv("HEXGRID_API_KEY", "another")
        with new_client(str(server.base_url), api_key=KEY) as client:
            assert client.embed("a").shape == (1, 64)


@both
def test_a_client_shows_its_address_and_not_its_key(kind: Any) -> None:
    client = kind("http://h:1", api_key=KEY, model="m", uds="/run/h.sock")

    assert repr(client) == f"{kind.__name__}('http://h:1/v1', uds='/run/h.sock', model='m')"
    assert KEY not in str(vars(client))


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "h:8000"}, "must be such as http://127.0.0.1:8000"),
        ({"base_url": "ftp://h"}, "must be such as"),
        ({"base_url": "http://"}, "must be such as"),
        ({"base_url": "http://h/v1?key=1"}, "must be such as"),
        ({"base_url": "http://me:secret@h"}, "holds a password"),
        ({"base_url": "http://h:port"}, "no URL"),
        ({"api_key": "k\u00fcche"}, "no header can carry"),
        ({"api_key": "two\nlines"}, "no header can carry"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, got 0"),
        ({"timeout": float("nan")}, "timeout must be more than 0"),
        ({"max_retries": -1}, "max_retries must be at least 0, got -1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"max_batch_tokens": 0}, "max_batch_tokens must be at least 1"),
        ({"max_batch_inputs": 0}, "max_batch_inputs must be at least 1"),
        ({"ssl_ca_certs": "/nowhere.pem"}, "ssl_ca_certs /nowhere.pem cannot be read"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_by_name(
    kind: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        kind(**options)

    assert "secret" not in str(caught.value)


@each_client
def test_a_unix_socket_is_used(new_client: Any, tmp_path: Path) -> None:
    path = tmp_path / "h.sock"
    with serve("--uds", str(path)) as server:
        server.wait_for("Listening on")
        with new_client(uds=path) as client:
            assert client.embed(["a", "b"]).shape == (2, 256)


@each_client
def test_a_server_is_trusted_by_its_authority(
    new_client: Any, tiny_model: ServedModel, tmp_path: Path
) -> None:
    authority, files = trustme.CA(), Files(tmp_path / "tls")
    files.write(authority)
    metrics, context = Metrics(), client_context(authority)
    certificates = Certificates(ServerConfig(ssl_certfile=files.cert, ssl_keyfile=files.key))
    with serving_https(variant(tiny_model, metrics, "m"), metrics, certificates, context) as server:
        url = str(server.base_url)
        with new_client(url, ssl_ca_certs=files.ca) as client:
            assert client.embed("a").shape == (1, 64)
        with new_client(url, ssl_context=context) as client:
            assert client.embed("a").shape == (1, 64)
        with (
            new_client(url) as client,
            pytest.raises(RemoteError, match=r"cannot be trusted: .*ssl_ca_certs"),
        ):
            client.embed("a")
        with pytest.raises(ConfigError, match="not both"):
            new_client(url, ssl_ca_certs=files.ca, ssl_context=context)


@each_client
def test_a_server_that_is_not_there_is_told(new_client: Any) -> None:
    with (
        new_client("http://127.0.0.1:9", max_retries=1) as client,
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached: Conn"),
    ):
        client.embed("a")


def test_hexgrid_serve_is_not_put_off_by_the_clients_variable(tmp_path: Path) -> None:
    path = tmp_path / "h.sock"
    with serve("--uds", str(path), HEXGRID_BASE_URL="http://elsewhere:1") as server:
        server.wait_for("Listening on")  # and fails if it ends
