"""TLS: what clients get, and that new files are taken up without a restart."""

import logging
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import trustme

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.tls import Certificates, certificates_of
from tests.server.certificates import Files, client_context, handshake
from tests.server.running import (
    connect,
    embed,
    new_client,
    serving_https,
    variant,
    vectors,
    wait_until,
)
from tests.server.tls.conftest import POLL_SECONDS
from tests.server.tls.looking import der, shown, trusts


def test_https_is_served(
    tiny_model: ServedModel, authority: trustme.CA, follow: Callable[..., Certificates]
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "tiny")
    context = client_context(authority)
    with serving_https(model, metrics, follow(), context) as client:
        assert str(client.base_url).startswith("https://")
        assert vectors(embed(client, "a")).shape == (1, 64)


def test_http_is_not(
    tiny_model: ServedModel, authority: trustme.CA, follow: Callable[..., Certificates]
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "tiny")
    with serving_https(model, metrics, follow(), client_context(authority)) as client:
        connection = connect(client)
        connection.request("GET", "/live")

        with pytest.raises(OSError):  # noqa: PT011 (reset, or closed without a word)
            connection.getresponse()
        connection.close()


def test_a_new_certificate_is_for_new_connections_and_old_ones_go_on(
    tiny_model: ServedModel,
    authority: trustme.CA,
    stranger: trustme.CA,
    files: Files,
    follow: Callable[..., Certificates],
) -> None:
    metrics, certificates = Metrics(), follow()
    model = variant(tiny_model, metrics, "tiny")
    context = client_context(authority)
    with serving_https(model, metrics, certificates, context) as client:
        assert client.get("/live").status_code == 200
        leaf = files.write(stranger)
        old = client_context(authority)
        wait_until(lambda: not trusts(certificates, old), "the new certificate is shown")

        assert client.get("/live").status_code == 200  # by the connection that it has kept
        with new_client(str(client.base_url), verify=client_context(stranger)) as late:
            assert late.get("/live").status_code == 200
        with (
            new_client(str(client.base_url), verify=old) as late,
            pytest.raises(httpx2.ConnectError),
        ):
            late.get("/live")
    assert shown(certificates, stranger) == der(leaf)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_versions_from_1_2_on_are_spoken(
    authority: trustme.CA, follow: Callable[..., Certificates], version: ssl.TLSVersion
) -> None:
    certificates = follow()
    client = client_context(authority)
    client.minimum_version = client.maximum_version = version

    assert handshake(certificates.context, client).version() == version.name.replace("_", ".")
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_who_names_no_server_gets_the_new_certificate_too(
    authority: trustme.CA, files: Files, follow: Callable[..., Certificates]
) -> None:
    certificates = follow()
    client = client_context(authority)
    client.check_hostname = False
    new = der(files.write(authority))

    wait_until(
        lambda: (
            handshake(certificates.context, client, name=None).getpeercert(binary_form=True) == new
        ),
        "the new certificate is shown",
    )


def test_links_that_lead_elsewhere_are_new_files(
    tmp_path: Path, authority: trustme.CA, files: Files
) -> None:
    """As Kubernetes and certbot renew them."""
    current = tmp_path / "current"
    current.symlink_to("server")
    config = ServerConfig(ssl_certfile=current / "cert.pem", ssl_keyfile=current / "key.pem")
    certificates = Certificates(config, poll_seconds=POLL_SECONDS)
    new = der(Files(tmp_path / "renewed").write(authority))

    current.unlink()
    current.symlink_to("renewed")

    wait_until(lambda: shown(certificates, authority) == new, "the new certificate is shown")
    certificates.close()


@pytest.mark.parametrize("what", ["cert", "key"])
@pytest.mark.parametrize("how", ["gone", "no PEM", "another's"])
def test_broken_new_files_leave_the_old_certificate(
    tmp_path: Path,
    authority: trustme.CA,
    files: Files,
    follow: Callable[..., Certificates],
    caplog: pytest.LogCaptureFixture,
    what: str,
    how: str,
) -> None:
    certificates = follow()
    before = shown(certificates, authority)
    file: Path = getattr(files, what)
    match how:
        case "gone":
            file.unlink()
        case "no PEM":
            file.write_text("nothing")
        case _:
            other = Files(tmp_path / "other")
            other.write(authority)
            shutil.copy(getattr(other, what), file)

    wait_until(lambda: "The certificate in use is kept" in caplog.text, "it is told")
    assert shown(certificates, authority) == before
    assert str(file) in caplog.text

    new = der(files.write(authority))
    wait_until(lambda: shown(certificates, authority) == new, "the repaired one is shown")
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


@pytest.mark.parametrize("reqs", ["required", "optional"])
def test_clients_certificates_are_looked_at(
    authority: trustme.CA,
    stranger: trustme.CA,
    files: Files,
    follow: Callable[..., Certificates],
    reqs: str,
) -> None:
    certificates = follow(ssl_ca_certs=files.ca, ssl_cert_reqs=reqs)

    def is_let_in(certificate: trustme.LeafCert | None) -> bool:
        return trusts(certificates, client_context(authority, certificate))

    assert is_let_in(authority.issue_cert("client"))
    assert not is_let_in(stranger.issue_cert("client"))
    assert is_let_in(None) == (reqs == "optional")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_clients_of_an_authority_that_was_removed_are_let_in_no_more(
    authority: trustme.CA,
    stranger: trustme.CA,
    files: Files,
    follow: Callable[..., Certificates],
    version: ssl.TLSVersion,
) -> None:
    certificates = follow(ssl_ca_certs=files.ca, ssl_cert_reqs="required")
    old = client_context(authority, authority.issue_cert("client"))
    new = client_context(authority, stranger.issue_cert("client"))
    old.maximum_version = version
    session = handshake(certificates.context, old).session

    stranger.cert_pem.write_to_path(files.ca)

    wait_until(lambda: trusts(certificates, new), "the new authority's are let in")
    assert not trusts(certificates, old)
    with pytest.raises(ssl.SSLError):  # not even by what it proved before
        handshake(certificates.context, old, session=session)


def test_nobody_follows_the_files_after_the_end(files: Files) -> None:
    certificates = certificates_of(ServerConfig(ssl_certfile=files.cert, ssl_keyfile=files.key))
    assert certificates is not None
    assert certificates._thread.is_alive()

    certificates.close()

    assert not certificates._thread.is_alive()
