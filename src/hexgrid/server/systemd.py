"""What a service manager is told (systemd's sd_notify protocol): nothing where none asks."""

import logging
import os
import socket

_logger = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send a state such as READY=1 to the socket that $NOTIFY_SOCKET names; a failure is logged only."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract sockets, which have no file
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address)
            manager.sendall(state.encode())
    except OSError as error:
        _logger.warning("The service manager cannot be told %s: %s", state, error)
