"""Embedder: the calls of Client on a model that is loaded into this process. Making one imports torch."""

import logging
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from hexgrid import nano
from hexgrid.client.answers import Embedded
from hexgrid.client.batching import Batches, Limits
from hexgrid.client.blocking import BlockingCalls
from hexgrid.client.collecting import Collected
from hexgrid.client.options import EmbedOptions, Inputs, fields_of, input_list
from hexgrid.client.progress import Progress, told
from hexgrid.config import EngineConfig
from hexgrid.config.settings import settings
from hexgrid.config.sources import load
from hexgrid.metrics import Metrics

if TYPE_CHECKING:
    from hexgrid.embedder.local_call import Started

# The engine has so many batches of a call at a time: one is tokenized while those before it are computed.
_BATCHES_AHEAD = 2
_BATCH_TOKENS, _BATCH_INPUTS = 65_536, 2048

_logger = logging.getLogger(__name__)


class Embedder(BlockingCalls):
    """Vectors from a model in this process, with the calls, options and errors of `Client`.

    `model` is a directory in Hugging Face layout, a hub id, or nothing for the embedded hexgrid/nano. The
    rest are settings of the engine (docs/settings.md) such as dtype="bfloat16" or quantization="int8"; for
    those not given HEXGRID_* variables act. Close it, or use it in a `with` block. Threads may share it.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: a setting cannot be used.
    """

    def __init__(self, model: str | Path | None = None, **engine: Any) -> None:
        known = [setting.name for setting in settings(EngineConfig)]
        for name in engine:
            if name not in known:
                raise TypeError(
                    f"{name!r} is no setting of the engine; there are {', '.join(known)}"
                )
        from hexgrid.embedder.local_call import LocalCall  # noqa: PLC0415, it imports torch
        from hexgrid.engine.native import open_model  # noqa: PLC0415, the same

        self.model = str(model or nano.NAME)
        self._new_call = LocalCall
        self._served = open_model(
            [self.model],
            self.model,
            load(EngineConfig, engine, os.environ),
            Metrics(),
            report=_report,
        )
        self._limits = Limits(max_tokens=_BATCH_TOKENS, max_inputs=_BATCH_INPUTS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def close(self) -> None:
        """Stop the engine."""
        self._served.engine.close()

    def embed_with_usage(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Embedded:
        """`embed`, with how many tokens the inputs took and how many of them were cut."""
        call = self._new_call(self._served, input_list(inputs), fields_of(options))
        batches = Batches(call.inputs, self._limits)
        running: deque[Started] = deque()
        with told(progress) as on_progress:
            collected = Collected(len(call.inputs), on_progress)
            try:
                while running or batches.are_left:
                    while len(running) < _BATCHES_AHEAD and (batch := batches.take()) is not None:
                        running.append(call.start(batch))
                        batches.counted(batch, running[-1].num_tokens)
                    collected.add(running[0].batch, call.end(running[0]))
                    running.popleft()
            finally:
                for started in running:
                    started.future.cancel()
        return collected.result(call.width)


def _report(text: str) -> None:
    """What is said while a model is loaded, to who reads this library's log."""
    _logger.log(logging.WARNING if text.startswith("WARNING") else logging.INFO, "%s", text)
