"""Whether an engine can be relied on, from what its forward passes do; and everyone's answer when it cannot.

The rules:
1. A pass that works says enough. After an input has failed alone, a probe of a single token says whose fault
   it was: if it works, the input's.
2. If some of them fail in a row, no pass works: everyone is refused until one does. One is tried whenever
   somebody asks.
3. If a probe finds the device lost, or a pass hangs, or the engine's thread breaks, the engine is dead: what
   is left of it cannot be trusted, nor ended. Only a new process helps.
"""

import logging

from hexgrid.engine.admission import Admission
from hexgrid.engine.protocols import DeviceLostError, Runner
from hexgrid.errors import EngineUnwellError
from hexgrid.model.pooling import finite_rows

_PROBE = [[0]]
_NUM_PROBES = 3  # that fail until no pass is thought to work

_logger = logging.getLogger(__name__)


class Health:
    """Of one engine, whose thread alone may call."""

    def __init__(self, runner: Runner, admission: Admission) -> None:
        self._runner = runner
        self._admission = admission

    def check(self) -> bool:
        """Whether passes work at all; if none does, everyone has been told.

        Raises:
            DeviceLostError: nor will one.
        """
        if any(self._probe() for _ in range(_NUM_PROBES)):
            return True
        _logger.error("No forward pass works, not even one of a single token: not ready")
        self._admission.pause(_unwell)
        self._admission.fail_all(lambda _: _unwell())
        return False

    def check_again(self) -> None:
        """Let everyone in again if passes work now."""
        if self._probe():
            _logger.warning("Forward passes work again: ready")
            self._admission.resume()
        else:
            self._admission.pause(_unwell)

    def _probe(self) -> bool:
        try:
            return bool(finite_rows(self._runner.run(_PROBE)()).all())
        except DeviceLostError:
            raise
        except Exception as error:  # whatever it is, the pass did not work
            _logger.warning("A forward pass of one token failed", exc_info=error)
            return False


def _unwell() -> EngineUnwellError:
    return EngineUnwellError(
        "No forward pass works at the moment, whatever the input; the server's log says more. Try again later"
    )
