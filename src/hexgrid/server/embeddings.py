"""The life of a request to embed, hop by hop, whichever API it came by.

    parse       the form's body -> EmbeddingCall         what is asked, checked as far as no model is needed
    render      conversations -> texts, where there are any
    encode      Tokenizer.encode                         text | ids -> ids, truncated as asked
    submit      Engine.submit, awaited until the client goes away
    finish      pooling.finish, then the form's answer

A request of more than a few hundred characters takes `encode` and `submit` in a thread; what is shorter and
comes in one turn of the event loop is encoded in a row.

The order of the checks is vLLM's: schema, model, truncation limit, length, dimensions, vocabulary.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hexgrid import headers
from hexgrid.config import ServerConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt, salt_of
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import HexgridError
from hexgrid.model import pooling
from hexgrid.server.answer import Answer
from hexgrid.server.auth import Client, client_of
from hexgrid.server.body import BodyReader
from hexgrid.server.call_encoding import check_encoded, encode, is_short
from hexgrid.server.conversations import Chat, Chats
from hexgrid.server.embedding_call import EmbeddingCall, RequestIds
from hexgrid.server.foreign_ids import WARNING, ForeignIdLog, are_foreign
from hexgrid.server.forms.form import Form
from hexgrid.server.gathering import Gathering
from hexgrid.server.rate_limits import RateLimits
from hexgrid.server.registry import Models
from hexgrid.server.request_record import RequestRecord, beginnings, record_of
from hexgrid.server.usage import UsageMeter
from hexgrid.server.waiting import in_thread, result_unless_gone, started_in_thread
from hexgrid.text_reader import Check, always_wanted
from hexgrid.tokenizer import Encoded
from hexgrid.wire import TokenIds

Body = TypeVar("Body", bound=msgspec.Struct)

_PROMPT_TOKENS = headers.PROMPT_TOKENS.encode()


class _Asked(NamedTuple):
    """A request on its way: what is asked, of which model, by whom."""

    call: EmbeddingCall
    model: ServedModel
    client: Client
    record: RequestRecord
    is_short: bool  # so that the event loop takes no more time for it than for reaching a thread


class EmbeddingPath:
    """Answers requests to embed of every form, and has what they share."""

    def __init__(
        self,
        models: Models,
        config: ServerConfig,
        bodies: BodyReader,
        *,
        limits: RateLimits,
        usage: UsageMeter | None,
        threads: Executor,
        chats: Chats,
    ) -> None:
        self._models = models
        self._config = config
        self._bodies = bodies
        self._limits = limits
        self._usage = usage
        self._threads = threads
        self._chats = chats
        self._foreign_ids = ForeignIdLog()
        self._short_ones = Gathering(self._encode_together)
        self.num_running = 0

    def endpoint(self, form: Form[Body]) -> "Endpoint[Body]":
        """The endpoint of one API."""
        return Endpoint(self, self._bodies, form)

    async def answer(
        self, request: Request, form: Form[Body], body: Body, start: float
    ) -> Response:
        """The answer to a body that began to be read at `start`, on the clock of `perf_counter`."""
        self.num_running += 1
        try:
            return await self._answer(request, form, body, start)
        finally:
            self.num_running -= 1

    async def _answer(
        self, request: Request, form: Form[Body], body: Body, start: float
    ) -> Response:
        record = record_of(request.scope)
        call = form.parse(body, RequestIds(record.client_id, record.request_id))
        record.timing.ended("parse", start)
        client = client_of(request.scope)
        model = self._models.find(call.model, client)
        self._note(record, call, model)
        if isinstance(call.parts[0].inputs, Chat):  # only a call of one part has them
            call = await self._rendered(call, call.parts[0].inputs, model)
        asked = _Asked(call, model, client, record, is_short(call, model))
        if asked.is_short:
            encoded = await self._short_ones.result_of(asked)
        else:
            encoded = await in_thread(self._threads, self._encode, asked)
        future = await self._promised(asked, encoded)
        hidden = await result_unless_gone(future, request.receive)
        record.timing.add_engine(future)
        started = perf_counter()
        vectors = pooling.finish(hidden, dimensions=call.dimensions, normalize=call.normalize)
        answer = Answer(
            call.id,
            call.created,
            model.name,
            vectors,
            encoded.num_tokens,
            tuple(map(len, call.parts)),
            started - start,
        )
        response = form.render(answer, body)
        model.metrics.phase("encode", record.timing.ended("encode", started))
        await self._count(client, model, encoded)
        response.raw_headers.append((_PROMPT_TOKENS, b"%d" % encoded.num_tokens))
        if encoded.num_truncated:
            response.headers[headers.TRUNCATED] = str(encoded.num_truncated)
        if record.has_foreign_ids:
            response.headers[headers.WARNING] = WARNING
            model.metrics.foreign_ids.inc()
            self._foreign_ids.tell(model.name)
        model.metrics.request_seconds.observe(perf_counter() - start)
        return response

    async def _rendered(self, call: EmbeddingCall, chat: Chat, model: ServedModel) -> EmbeddingCall:
        """The same with texts for its conversations."""
        texts = await self._chats.texts(chat, model)
        return replace(call, parts=(replace(call.parts[0], inputs=texts),))

    def _encode_together(self, requests: Sequence[_Asked]) -> list[Encoded | Exception]:
        """Token ids for each, or what is wrong with it."""
        encoded: list[Encoded | Exception] = []
        for asked in requests:
            try:
                encoded.append(self._encode(always_wanted, asked))
            except Exception as error:  # noqa: BLE001 (whatever it is, it is this one's)
                encoded.append(error)
        return encoded

    def _encode(self, check: Check, asked: _Asked) -> Encoded:
        """Token ids that the engine takes; blocking."""
        call, model, record = asked.call, asked.model, asked.record
        started = perf_counter()
        encoded = encode(call, model, self._config.max_num_inputs, check)
        model.metrics.phase("tokenize", record.timing.ended("tokenize", started))
        record.num_tokens, record.num_truncated = encoded.num_tokens, encoded.num_truncated
        check_encoded(call, model, encoded)
        return encoded

    async def _promised(self, asked: _Asked, encoded: Encoded) -> Future[Vectors]:
        """The engine's promise, once the client's tokens are counted."""
        if not encoded.token_ids:
            return _nothing(asked.model)
        await self._limits.take_tokens(asked.client, encoded.num_tokens)
        try:
            if asked.is_short:
                return self._submit(asked, encoded)
            return await self._submitted_by_thread(asked, encoded)
        except HexgridError:
            await self._limits.give_back(asked.client, encoded.num_tokens)
            raise

    async def _submitted_by_thread(self, asked: _Asked, encoded: Encoded) -> Future[Vectors]:
        """The same, where there is much to hand over."""

        def submit(_: Check) -> tuple[None, Future[Vectors]]:
            return None, self._submit(asked, encoded)

        return (await started_in_thread(self._threads, submit))[1]

    def _submit(self, asked: _Asked, encoded: Encoded) -> Future[Vectors]:
        call, model, client, record = asked.call, asked.model, asked.client, asked.record
        future = model.engine.submit(
            encoded.token_ids, priority=call.priority, salt=self._salt(call, client)
        )
        # While the engine computes, and not for who is refused.
        if _has_ids(call) and not self._config.trust_token_ids:
            record.has_foreign_ids = are_foreign(encoded.token_ids, model.tokenizer)
        return future

    def _salt(self, call: EmbeddingCall, client: Client) -> Salt:
        """Whose caches are used: those of the request's salt, and of the client where each has its own."""
        return salt_of(client.name if self._config.isolate_caches else None, call.cache_salt)

    def _note(self, record: RequestRecord, call: EmbeddingCall, model: ServedModel) -> None:
        record.model = model.name
        record.num_inputs = len(call)
        if self._config.log_inputs:
            shown: list[str | TokenIds] = []
            for part in call.parts:
                shown += part.inputs.contents() if isinstance(part.inputs, Chat) else part.inputs
            record.inputs = beginnings(shown, self._config.log_inputs)

    async def _count(self, client: Client, model: ServedModel, encoded: Encoded) -> None:
        num_inputs, num_tokens = len(encoded.token_ids), encoded.num_tokens
        model.metrics.inputs.inc(num_inputs)
        model.metrics.prompt_tokens.inc(num_tokens)
        if encoded.num_truncated:
            model.metrics.truncated.inc(encoded.num_truncated)
        for ids in encoded.token_ids:
            model.metrics.input_tokens.observe(len(ids))
        if self._usage is not None:
            await self._usage.count(client.name, model.name, inputs=num_inputs, tokens=num_tokens)


class Endpoint(Generic[Body]):
    """One API of the path, as an ASGI application of its own: Starlette puts nothing around those."""

    def __init__(self, path: EmbeddingPath, bodies: BodyReader, form: Form[Body]) -> None:
        self._path = path
        self._bodies = bodies
        self._form = form
        self._decoder = msgspec.json.Decoder(form.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter()
        request, form = Request(scope, receive), self._form
        body = await self._bodies.read(
            request, self._decoder, any_content_type=form.any_content_type
        )
        response = await self._path.answer(request, form, body, start)
        await response(scope, receive, send)


def _has_ids(call: EmbeddingCall) -> bool:
    """Whether a client made the token ids; they are all of a call then."""
    inputs = call.parts[0].inputs
    return not isinstance(inputs, Chat) and bool(inputs) and isinstance(inputs[0], list)


def _nothing(model: ServedModel) -> "Future[Vectors]":
    """The hidden states of no inputs."""
    future: Future[Vectors] = Future()
    future.set_result(np.empty((0, model.embedding_dimension), np.float32))
    return future
