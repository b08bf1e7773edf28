"""The end of a process whose engine is dead, so that whoever watches over it starts another one.

What hangs inside torch or a driver cannot be ended from Python, and a device that is lost stays so for this
process: starting anew within it would be pretence.
"""

import logging
import os
import sys
import threading

from hexgrid.server.draining import DrainingServer
from hexgrid.server.registry import Models

# EX_TEMPFAIL of sysexits.h: "try again later".
EXIT_CODE = 75
# From the death until the process is gone, whatever else goes on; answers need milliseconds of it.
_MOST_SECONDS = 5.0
_DRAIN_SECONDS = 3.0

_logger = logging.getLogger(__name__)


class Ending:
    """Stops `server` when an engine of `models` dies, and ends the process with EXIT_CODE."""

    def __init__(self, models: Models, server: DrainingServer) -> None:
        self._server = server
        self._begun = threading.Event()
        for model in models:
            model.engine.death.add_done_callback(lambda _: self._begin())

    def finish(self) -> None:
        """To be called when the server has stopped: does not return if an engine is dead."""
        if self._begun.is_set():
            _exit()

    def _begin(self) -> None:
        """From any thread. The callers of the engine have been answered; their answers are on the way."""
        _logger.critical("The process ends with code %d, to be started again", EXIT_CODE)
        timer = threading.Timer(_MOST_SECONDS, _exit)
        timer.daemon = True
        timer.start()
        self._begun.set()
        self._server.stop(drain_timeout=_DRAIN_SECONDS)


def _exit() -> None:
    """Without waiting for any thread, as one of them hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)
