"""hexgrid: a self-hosted embeddings server for Qwen3-Embedding, and its client."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexgrid.client.asynchronous import AsyncClient

__all__ = ["AsyncClient", "__version__"]
__version__ = "0.1.0"

# Found when they are asked for, so that `import hexgrid` costs nothing.
_MODULES = {"AsyncClient": "hexgrid.client.asynchronous"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
