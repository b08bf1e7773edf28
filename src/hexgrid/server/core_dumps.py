"""A crash leaves no image of the memory behind: keys and texts pass through it."""

import ctypes
import logging
import resource
import sys

_PR_SET_DUMPABLE = 4

_logger = logging.getLogger(__name__)


def refuse_core_dumps() -> None:
    """From now on none is written; on Linux only root may read this process's memory, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Where the kernel hands cores to a program, the limit of their size is not asked.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _logger.warning(
            "The kernel does not let core dumps be refused; a crash may leave keys in one"
        )
