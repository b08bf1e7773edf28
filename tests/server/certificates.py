"""Authorities and certificates of the tests' own, and how a client and a server agree without a network."""

import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

NAMES = ("localhost", "127.0.0.1")
PASSWORD = "correct horse"


class Files:
    """A certificate, its key and the authority's own certificate, in a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.cert = directory / "cert.pem"
        self.key = directory / "key.pem"
        self.ca = directory / "ca.pem"

    def write(self, authority: trustme.CA) -> trustme.LeafCert:
        """Put a new certificate there."""
        leaf = authority.issue_cert(*NAMES)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        authority.cert_pem.write_to_path(self.ca)
        return leaf

    def encrypt_key(self) -> None:
        """Put a password on the key that is there."""
        key = load_pem_private_key(self.key.read_bytes(), None)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def client_context(
    authority: trustme.CA, certificate: trustme.LeafCert | None = None
) -> ssl.SSLContext:
    """A client that trusts an authority and may have a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def handshake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    *,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLObject:
    """The client's end of a new connection, once both ends agree and have said something.

    Raises:
        ssl.SSLError: they do not.
    """
    upstream, downstream = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(downstream, upstream, server_hostname=name, session=session)
    far = server.wrap_bio(upstream, downstream, server_side=True)
    open_ends = [near, far]
    for _ in range(10):
        open_ends = [end for end in open_ends if not _is_through(end)]
    assert not open_ends
    far.write(b"hello")  # what a server says after the handshake, tickets too, comes with it
    assert near.read() == b"hello"
    return near


def _is_through(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
