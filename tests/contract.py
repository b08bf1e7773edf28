"""The tests of POST /v1/embeddings that hold whatever computes the vectors, to be run with other engines.

A test module takes them in by `globals().update(CONTRACT)`; their fixture `client` is then its own.
"""

from types import ModuleType
from typing import Any

from tests.server import test_answer, test_embedding_call, test_embeddings


def _tests_of(*modules: ModuleType) -> dict[str, Any]:
    found = [
        (name, value)
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("test_")
    ]
    assert len(dict(found)) == len(found), "two tests of one name: one would not run"
    return dict(found)


CONTRACT = _tests_of(test_answer, test_embedding_call, test_embeddings)
