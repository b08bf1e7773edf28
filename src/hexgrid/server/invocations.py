"""POST /invocations, SageMaker's one path: which API a body is of is told by its fields."""

from time import perf_counter
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hexgrid.errors import RequestError
from hexgrid.server.body import BodyReader
from hexgrid.server.embeddings import EmbeddingPath
from hexgrid.server.forms.form import Form
from hexgrid.server.forms.openai import EMBEDDINGS
from hexgrid.server.forms.scores import PAIRS, RERANK, SCORE


class _Fields(msgspec.Struct):
    """The fields that tell bodies apart."""

    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    query: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    queries: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    documents: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_1: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_2: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text_1: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text_2: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# In the order in which they are tried; all fields of a set must be there.
_FORMS: tuple[tuple[Form[Any], tuple[set[str], ...]], ...] = (
    (EMBEDDINGS, ({"input"}, {"messages"})),
    (RERANK, ({"query", "documents"},)),
    (SCORE, tuple(set(pair) for pair in PAIRS)),
)


class Invocations:
    """The endpoint."""

    def __init__(self, embeddings: EmbeddingPath, bodies: BodyReader) -> None:
        self._embeddings = embeddings
        self._bodies = bodies
        self._fields = msgspec.json.Decoder(_Fields)
        self._decoders = {form.body: msgspec.json.Decoder(form.body) for form, _ in _FORMS}

    async def invoke(self, request: Request) -> Response:
        """The answer of whichever path the body is for."""
        start = perf_counter()
        data = await self._bodies.read_bytes(request)
        fields = self._bodies.decode(data, self._fields)
        given = {name for name in _Fields.__struct_fields__ if getattr(fields, name)}
        for form, wanted in _FORMS:
            if any(names <= given for names in wanted):
                body = self._bodies.decode(data, self._decoders[form.body])
                return await self._embeddings.answer(request, form, body, start)
        expected = "; ".join(
            " or ".join(" and ".join(sorted(names)) for names in wanted) for _, wanted in _FORMS
        )
        raise RequestError(
            f"Cannot find suitable handler for request. Expected the fields of one of: {expected}",
            param="body",
        )
