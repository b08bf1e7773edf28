"""A unix socket to listen on: its file, who may write to it, and whose it is."""

import os
import re
import socket
import stat
from pathlib import Path

from hexgrid.errors import ConfigError

_DEFAULT_MODE = "0660"


def mode_of(text: str | None) -> int:
    """Permissions from octal digits.

    Raises:
        ConfigError: they are none.
    """
    text = text or _DEFAULT_MODE
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ConfigError(
            f"--uds-mode must be permissions in octal from 000 to 777, got {text!r}",
            param="uds_mode",
        )
    return int(text, 8)


class UnixListener(socket.socket):
    """A bound unix socket; closing it removes its file, unless that is another's by now."""

    def __init__(self, path: Path, mode: int) -> None:
        """Raises:
        ConfigError: the file cannot be made, somebody listens there, or it is no socket.
        """
        super().__init__(socket.AF_UNIX)
        self.path = path
        self._file: tuple[int, int] | None = None
        try:
            _make_room(path)
            self.bind(str(path))
            self._file = _identity(path)
            path.chmod(mode)  # nobody can connect before `listen`
        except OSError as error:
            self.close()
            raise _refusal(path, str(error)) from error
        except ConfigError:
            self.close()
            raise

    def listen(self, backlog: int = socket.SOMAXCONN, /) -> None:
        """Raises:
        ConfigError: another server has put its own socket there since.
        """
        if _identity(self.path) != self._file:
            raise _refusal(self.path, "another server has taken it meanwhile")
        super().listen(backlog)

    def close(self) -> None:
        if self._file is not None and _identity(self.path) == self._file:
            self.path.unlink(missing_ok=True)
        self._file = None
        super().close()


def _make_room(path: Path) -> None:
    """Remove what a server that is gone left behind; raises where anything else is there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise _refusal(path, "it is there already and no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full queue would keep us waiting
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise _refusal(path, "another server listens there")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refusal(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"Cannot listen on --uds {path}: {reason}. Choose another path", param="uds")
