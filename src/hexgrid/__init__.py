"""hexgrid: a self-hosted embeddings server for Qwen3-Embedding, and its client."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexgrid.client.answers import Embedded
    from hexgrid.client.asynchronous import AsyncClient
    from hexgrid.client.ranking import Match
    from hexgrid.client.synchronous import Client
    from hexgrid.embedder.embedder import Embedder

__all__ = ["AsyncClient", "Client", "Embedded", "Embedder", "Match", "__version__"]
__version__ = "0.1.0"

# Found when they are asked for, so that `import hexgrid` costs nothing.
_MODULES = {
    "AsyncClient": "hexgrid.client.asynchronous",
    "Client": "hexgrid.client.synchronous",
    "Embedded": "hexgrid.client.answers",
    "Embedder": "hexgrid.embedder.embedder",
    "Match": "hexgrid.client.ranking",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
