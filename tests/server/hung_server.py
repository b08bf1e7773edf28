"""A server whose forward passes hang or break, in a process of its own.

    python -m tests.server.hung_server CHECKPOINT USAGE_DIRECTORY DRAIN_TIMEOUT

Prints where it listens. It serves `m`, and `other` on a runner of its own. An input that begins with HANGS
never ends, one that begins with BREAKS takes the engine's thread with it. A line on stdin lets more time pass
than a forward pass of `m` may take, once one hangs.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hexgrid.config import EngineConfig, ServerConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.native import open_model
from hexgrid.engine.sequence import Salt
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.ending import Ending
from hexgrid.server.registry import Models
from hexgrid.server.serving import bind, new_server, url_of
from hexgrid.wire import TokenIds
from tests.engine.bench import FORWARD_TIMEOUT, HandClock, let_pass
from tests.server.gated_runner import GatedRunner
from tests.server.running import variant

HANGS, BREAKS = 90_001, 90_002


class HangingRunner(GatedRunner):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()
        self.hangs = threading.Event()

    def run(
        self, token_ids: Sequence[TokenIds], salts: Sequence[Salt] = ()
    ) -> Callable[[], Vectors]:
        if any(ids[0] == HANGS for ids in token_ids):
            self.hangs.set()
            threading.Event().wait()
        if any(ids[0] == BREAKS for ids in token_ids):
            raise SystemExit
        return super().run(token_ids, salts)


def main() -> None:
    checkpoint, usage_directory = map(Path, sys.argv[1:3])
    metrics, clock = Metrics(), HandClock()
    opened = open_model(["opened"], checkpoint, EngineConfig(dtype="float32"), Metrics())
    runner = HangingRunner()
    model = variant(
        opened,
        metrics,
        "m",
        runner=runner,
        max_num_seqs=4,
        clock=clock,
        forward_timeout=FORWARD_TIMEOUT,
    )
    engine = model.engine
    assert isinstance(engine, NativeEngine)

    def let_time_pass() -> None:
        for _ in sys.stdin:
            runner.hangs.wait()
            let_pass(engine, clock, FORWARD_TIMEOUT)

    config = ServerConfig(port=0, usage_dir=usage_directory, drain_timeout=float(sys.argv[3]))
    models = Models([model, variant(opened, metrics, "other", runner=HangingRunner())])
    with bind(config) as listener:
        listener.listen()
        threading.Thread(target=let_time_pass, daemon=True).start()
        sys.stdout.write(f"{url_of(listener)}\n")
        sys.stdout.flush()
        app = create_app(models, config, metrics)
        server = new_server(app, config, metrics, None, models.drain)
        server.take_signals()
        ending = Ending(models, server)
        server.run(sockets=[listener])
        ending.finish()
        sys.exit(server.exit_code)


if __name__ == "__main__":
    main()
