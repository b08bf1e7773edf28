"""What a client sees of a server's certificates."""

import ssl
from typing import Any

import trustme

from hexgrid.server.tls import Certificates
from tests.server.certificates import client_context, handshake


def shown(certificates: Certificates, authority: trustme.CA, **options: Any) -> "bytes | None":
    """The certificate that a new connection gets."""
    near = handshake(certificates.context, client_context(authority), **options)
    return near.getpeercert(binary_form=True)


def der(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def trusts(certificates: Certificates, client: ssl.SSLContext) -> bool:
    try:
        handshake(certificates.context, client)
    except ssl.SSLError:
        return False
    return True
