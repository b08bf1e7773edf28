"""Runs a command, and ends it with all its descendants when whoever started us is gone, however that happens.

A program of its own, of the standard library alone: `python minder.py COMMAND ARGUMENT ...`, whose standard
input is a pipe. The pipe ends with whoever holds its other end, killed or not. Exits as the command did.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

_SECONDS_TO_END = 10.0


def main() -> int:
    # Signals to a whole group are not for us: whoever started us may still have work for the child. Handlers,
    # as what is ignored stays so in the child.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(  # noqa: S603 (what the operator says is to be run)
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a group of its own, which is ended as a whole
    )
    threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
    code = child.wait()
    _signal_group(child, signal.SIGKILL)  # what it has left behind
    return code if code >= 0 else 128 - code


def _end_with_parent(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_SECONDS_TO_END)
    _signal_group(child, signal.SIGKILL)


def _signal_group(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main())
