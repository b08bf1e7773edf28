"""What the shared path needs to know of an API."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.responses import Response

from hexgrid.server.answer import Answer
from hexgrid.server.embedding_call import EmbeddingCall, RequestIds

Body = TypeVar("Body", bound=msgspec.Struct)


@dataclass(frozen=True)
class Form(Generic[Body]):
    """How one API asks, and how it is answered."""

    body: type[Body]
    # Raises SchemaError or RequestError, naming the field; no model is needed.
    parse: Callable[[Body, RequestIds], EmbeddingCall]
    render: Callable[[Answer, Body], Response]
    any_content_type: bool = False  # whether a body is taken for JSON whatever its header says
