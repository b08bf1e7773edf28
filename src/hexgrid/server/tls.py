"""TLS: the certificate and key from their files, and again when these change.

The context that the server holds never changes. It hands each connection, at its first message, to the newest
context that could be made, so that none sees half a certificate, and broken new files harm nobody.
"""

import logging
import ssl
import threading
from pathlib import Path

from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError

_POLL_SECONDS = 1.0
_VERIFY = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

_logger = logging.getLogger(__name__)

# What identifies the content of each file, as far as one can tell without reading it.
_State = tuple[tuple[int, ...] | None, ...]


class Certificates:
    """The context to serve with; a thread follows its files until `close`."""

    def __init__(self, config: ServerConfig, *, poll_seconds: float = _POLL_SECONDS) -> None:
        """Raises:
        ConfigError: a file is missing or not of its kind, or they do not belong together.
        """
        self._config = config
        self._poll_seconds = poll_seconds
        self._seen = self._state()
        self._newest = new_context(config)
        self.context = new_context(config)
        # Called also for clients that name no server.
        self.context.sni_callback = self._hand_over
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, name="hexgrid-certificates", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Follow the files no longer."""
        self._stop.set()
        self._thread.join()

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _follow(self) -> None:
        before = self._seen
        while not self._stop.wait(self._poll_seconds):
            now = self._state()
            # Only once they rest: a certificate and its key are rarely replaced in the same moment.
            if now == before != self._seen:
                self._seen = now
                self._reload()
            before = now

    def _reload(self) -> None:
        try:
            self._newest = new_context(self._config)
        except ConfigError as error:
            _logger.error("%s. The certificate in use is kept", error)  # noqa: TRY400
        else:
            _logger.info("The certificate %s was read again", self._config.ssl_certfile)

    def _state(self) -> _State:
        config = self._config
        return tuple(
            _file_state(path)
            for path in (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs)
            if path is not None
        )


def certificates_of(config: ServerConfig) -> Certificates | None:
    """What to serve https with; None where http is served.

    Raises:
        ConfigError: settings of TLS do not go together, or see `Certificates`.
    """
    with_ca = config.ssl_ca_certs is not None
    if config.ssl_certfile is None:
        for flag, value in (
            ("--ssl-keyfile", config.ssl_keyfile),
            ("--ssl-keyfile-password", config.ssl_keyfile_password),
            ("--ssl-ca-certs", config.ssl_ca_certs),
            ("--ssl-cert-reqs", _VERIFY[config.ssl_cert_reqs] or None),
        ):
            if value is not None:
                raise ConfigError(f"{flag} goes with --ssl-certfile, which is not given")
        return None
    if with_ca and config.ssl_cert_reqs == "none":
        raise ConfigError(
            "--ssl-ca-certs checks nobody unless --ssl-cert-reqs is required or optional",
            param="ssl_cert_reqs",
        )
    if not with_ca and config.ssl_cert_reqs != "none":
        raise ConfigError(
            f"--ssl-cert-reqs {config.ssl_cert_reqs} needs --ssl-ca-certs, the authorities to trust",
            param="ssl_ca_certs",
        )
    return Certificates(config)


def new_context(config: ServerConfig) -> ssl.SSLContext:
    """A server's context of TLS 1.2 and later from the files as they are now.

    Raises:
        ConfigError: see `Certificates`.
    """
    assert config.ssl_certfile is not None
    _check_pem(config.ssl_certfile, "--ssl-certfile", "CERTIFICATE")
    if config.ssl_keyfile is None:
        _check_pem(config.ssl_certfile, "--ssl-keyfile is not given, and", "PRIVATE KEY")
    else:
        _check_pem(config.ssl_keyfile, "--ssl-keyfile", "PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, config, config.ssl_certfile)
    if config.ssl_ca_certs is not None:
        _check_pem(config.ssl_ca_certs, "--ssl-ca-certs", "CERTIFICATE")
        _load_authorities(context, config.ssl_ca_certs)
        context.verify_mode = _VERIFY[config.ssl_cert_reqs]
        # A client is looked at whenever it connects, and not let in by what an earlier connection proved.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _load_certificate(context: ssl.SSLContext, config: ServerConfig, certfile: Path) -> None:
    keyfile, secret = config.ssl_keyfile or certfile, config.ssl_keyfile_password

    def password() -> str:  # without it OpenSSL would ask at the terminal
        if secret is None:
            raise ConfigError(
                f"The key in {keyfile} is encrypted; give --ssl-keyfile-password, best as "
                "HEXGRID_SSL_KEYFILE_PASSWORD",
                param="ssl_keyfile_password",
            )
        return secret.value

    try:
        context.load_cert_chain(certfile, keyfile, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = "the key is another certificate's"
        elif secret is not None:
            reason = f"{error.reason or error}; is --ssl-keyfile-password the right one?"
        else:
            reason = error.reason or str(error)
        raise ConfigError(
            f"The certificate {certfile} cannot be used with the key in {keyfile}: {reason}",
            param="ssl_keyfile",
        ) from error


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(
            f"--ssl-ca-certs {file} cannot be used: {error.reason or error}", param="ssl_ca_certs"
        ) from error


def _check_pem(file: Path, flag: str, kind: str) -> None:
    """Refuse a file that is not there or holds nothing of that kind."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag} {file} cannot be read: {error.strerror}") from error
    if f"{kind}-----".encode() not in content:
        raise ConfigError(f"{flag} {file} holds no {kind} in PEM form")


def _file_state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
