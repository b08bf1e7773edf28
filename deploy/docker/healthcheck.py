"""Exits with 0 when the server in this container can answer, with 1 when it cannot.

It knows the server's settings from HEXGRID_* variables; flags it cannot see.
"""

import http.client
import os
import ssl
import sys

_SECONDS = 4.0


def main() -> int:
    port = int(os.environ.get("HEXGRID_PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    if "HEXGRID_SSL_CERTFILE" in os.environ:
        context = ssl.create_default_context()
        # The certificate is for the name that clients use; here nobody can stand in between.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_SECONDS, context=context
        )
    try:
        connection.request("GET", "/ready")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
