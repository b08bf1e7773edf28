"""The server that is fuzzed, and a whole run against it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hexgrid.server.key_store import KeyStore, Limits
from tests.cli.hexgrid_process import serve
from tests.fuzz.campaign import Campaign, Seen
from tests.fuzz.report import MOST_GROWTH, growth_percent, log_problems
from tests.server.running import KEY, metric, wait_until
from tests.soak.pool import PRECISION, make_pool

# What does not arrive is not waited for long; the caches are full before memory is looked at.
_SETTINGS = {
    "header-timeout": "2",
    "body-timeout": "2",
    "keep-alive-timeout": "5",  # as long may the body take of a request that was answered before it came
    "result-cache-bytes": "300000",
    "prefix-cache-bytes": str(16 * 2**20),
    "dtype": PRECISION,
    "log-format": "json",
}


def fuzz(indices: Sequence[int], seed: int, directory: Path) -> Seen:
    """Send these cases to `hexgrid serve` with nano, which keeps its keys and usage in `directory`."""
    items = make_pool(num_short=50, num_long=0, num_heavy=0).short
    store = KeyStore(directory / "keys.sqlite3")
    store.create("somebody", Limits())
    flags = [text for name, value in _SETTINGS.items() for text in (f"--{name}", value)]
    flags += ["--key-store", str(store.file), "--usage-dir", str(directory / "usage")]
    with serve(*flags, HEXGRID_API_KEY=KEY) as server, server.client(key=KEY) as client:
        assert client.get("/ready").status_code == 200
        port = urlsplit(server.url).port
        assert port is not None
        seen = asyncio.run(Campaign(port, server.process.pid, items, seed).run(indices))
        wait_until(lambda: metric(client, "connections") == 1, "all other connections are closed")
        if client.get("/ready").status_code != 200:
            seen.problems["not ready at the end"] += 1
        if (code := server.stop()) != 0:
            seen.problems[f"exit code {code}"] += 1
    seen.problems += log_problems(server.stderr)
    growth = growth_percent(seen.memory)
    if growth is not None and growth > MOST_GROWTH:
        seen.problems[f"memory grew by {growth:.2f}%"] += 1
    return seen
