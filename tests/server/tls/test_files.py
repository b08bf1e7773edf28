"""Which certificates, keys and settings of TLS do, and how the others are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.errors import ConfigError
from hexgrid.server.tls import Certificates, certificates_of
from tests.server.certificates import PASSWORD, Files
from tests.server.tls.looking import shown


def refused(message: str, **settings: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        certificates_of(ServerConfig(**settings))


@pytest.mark.parametrize("flag", ["--ssl-certfile", "--ssl-keyfile", "--ssl-ca-certs"])
@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"no PEM", r"holds no \w+")]
)
def test_a_file_that_will_not_do_is_told_by_its_flag(
    tmp_path: Path, files: Files, flag: str, content: bytes | None, message: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    settings: dict[str, Any] = {
        "ssl_certfile": files.cert,
        "ssl_keyfile": files.key,
        "ssl_ca_certs": files.ca,
        "ssl_cert_reqs": "required",
    }
    settings[flag[2:].replace("-", "_")] = file

    refused(f"^{flag} {file} {message}", **settings)


@pytest.mark.parametrize("what", ["cert", "key", "ca"])
def test_a_file_that_is_cut_short_is_told(files: Files, what: str) -> None:
    file: Path = getattr(files, what)
    file.write_bytes(file.read_bytes()[:200])

    refused(
        f"{file}.*cannot be used|cannot be used.*{file}",
        ssl_certfile=files.cert,
        ssl_keyfile=files.key,
        ssl_ca_certs=files.ca,
        ssl_cert_reqs="required",
    )


def test_a_key_of_another_certificate_is_told(
    tmp_path: Path, authority: trustme.CA, files: Files
) -> None:
    other = Files(tmp_path / "other")
    other.write(authority)

    refused(
        f"{files.cert} cannot be used with the key in {other.key}: the key is another certificate's",
        ssl_certfile=files.cert,
        ssl_keyfile=other.key,
    )


def test_certificate_and_key_may_share_a_file(authority: trustme.CA, files: Files) -> None:
    refused("--ssl-keyfile is not given, and .* holds no PRIVATE KEY", ssl_certfile=files.cert)
    files.cert.write_bytes(files.cert.read_bytes() + files.key.read_bytes())

    certificates = certificates_of(ServerConfig(ssl_certfile=files.cert))

    assert certificates is not None
    assert shown(certificates, authority)
    certificates.close()


def test_an_encrypted_key_opens_with_its_password(
    authority: trustme.CA, files: Files, follow: Callable[..., Certificates]
) -> None:
    files.encrypt_key()

    assert shown(follow(ssl_keyfile_password=Secret(PASSWORD)), authority)


@pytest.mark.parametrize(
    ("password", "message"),
    [(None, "is encrypted; give --ssl-keyfile-password"), ("wrong", "the right one")],
)
def test_without_its_password_it_is_refused_and_nobody_is_asked_at_the_terminal(
    files: Files, password: str | None, message: str
) -> None:
    files.encrypt_key()

    refused(
        message,
        ssl_certfile=files.cert,
        ssl_keyfile=files.key,
        ssl_keyfile_password=None if password is None else Secret(password),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"ssl_keyfile": Path("key.pem")},
        {"ssl_keyfile_password": Secret("x")},
        {"ssl_ca_certs": Path("ca.pem")},
        {"ssl_cert_reqs": "optional"},
    ],
    ids=str,
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any]) -> None:
    flag = "--" + next(iter(settings)).replace("_", "-")

    refused(f"{flag} goes with --ssl-certfile, which is not given", **settings)


def test_authorities_and_the_wish_for_clients_certificates_go_together(files: Files) -> None:
    both = {"ssl_certfile": files.cert, "ssl_keyfile": files.key}

    refused("--ssl-ca-certs checks nobody unless", ssl_ca_certs=files.ca, **both)
    refused("--ssl-cert-reqs required needs --ssl-ca-certs", ssl_cert_reqs="required", **both)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert certificates_of(ServerConfig()) is None
