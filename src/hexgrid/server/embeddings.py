"""POST /v1/embeddings: the life of a request, hop by hop.

    parse       EmbeddingRequest -> EmbeddingCall        what is asked, checked as far as no model is needed
    encode      Tokenizer.encode                         text | ids -> ids, truncated as asked
    submit      Engine.submit, awaited until the client goes away
    finish      pooling.finish, then the wire encoding

A request of more than a few hundred characters takes `encode` and `submit` in a thread.

The order of the checks is vLLM's: schema, model, truncation limit, length, dimensions, vocabulary.
"""

from concurrent.futures import Executor, Future
from time import perf_counter

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hexgrid.config import ServerConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt, salt_of
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import HexgridError, RequestError
from hexgrid.model import pooling
from hexgrid.server.answer import Answer, render
from hexgrid.server.auth import Client, client_of
from hexgrid.server.body import BodyReader
from hexgrid.server.embedding_call import EmbeddingCall, parse, truncation_of, with_prompt
from hexgrid.server.foreign_ids import WARNING, ForeignIdLog, are_foreign
from hexgrid.server.rate_limits import RateLimits
from hexgrid.server.registry import Models
from hexgrid.server.request_record import RequestRecord, beginnings, record_of
from hexgrid.server.usage import UsageMeter
from hexgrid.server.waiting import result_unless_gone, started_in_thread
from hexgrid.text_reader import Check
from hexgrid.tokenizer import Encoded
from hexgrid.wire import EmbeddingRequest

# So few inputs and characters (or ids), prompts included, are encoded sooner than a thread is reached.
_SHORT_INPUTS, _SHORT_CHARS = 4, 512


class EmbeddingsRoute:
    """The endpoint and what it shares between requests."""

    def __init__(
        self,
        models: Models,
        config: ServerConfig,
        bodies: BodyReader,
        *,
        limits: RateLimits,
        usage: UsageMeter | None,
        threads: Executor,
    ) -> None:
        self._models = models
        self._config = config
        self._bodies = bodies
        self._limits = limits
        self._usage = usage
        self._threads = threads
        self._decoder = msgspec.json.Decoder(EmbeddingRequest)
        self._foreign_ids = ForeignIdLog()

    async def create(self, request: Request) -> Response:
        """The endpoint."""
        record = record_of(request.scope)
        start = perf_counter()
        body = await self._bodies.read(request, self._decoder)
        call = parse(body, header_id=record.client_id, new_id=record.request_id)
        record.timing.ended("parse", start)
        client = client_of(request)
        model = self._models.find(body.model, client)
        self._note(record, call, model)
        response = await self._embed(request, call, model, client)
        model.metrics.request_seconds.observe(perf_counter() - start)
        return response

    async def _embed(
        self, request: Request, call: EmbeddingCall, model: ServedModel, client: Client
    ) -> Response:
        record = record_of(request.scope)
        if _is_short(call, model):
            encoded, future = self._start(_always_wanted, call, model, client, record)
        else:
            encoded, future = await started_in_thread(
                self._threads, self._start, call, model, client, record
            )
        hidden = await result_unless_gone(future, request.receive)
        record.timing.add_engine(future)
        started = perf_counter()
        vectors = pooling.finish(
            hidden,
            dimensions=call.request.dimensions,
            normalize=call.request.use_activation is not False,
        )
        answer = Answer(call.id, call.created, model.name, vectors, encoded.num_tokens)
        response = render(answer, call.request)
        model.metrics.phase("encode", record.timing.ended("encode", started))
        _count(model, encoded)
        if self._usage is not None:
            await self._usage.count(
                client.name,
                model.name,
                inputs=len(encoded.token_ids),
                tokens=encoded.num_tokens,
            )
        if encoded.num_truncated:
            response.headers["x-hexgrid-truncated"] = str(encoded.num_truncated)
        if record.has_foreign_ids:
            response.headers["x-hexgrid-warning"] = WARNING
            model.metrics.foreign_ids.inc()
            self._foreign_ids.tell(model.name)
        return response

    def _start(
        self,
        check: Check,
        call: EmbeddingCall,
        model: ServedModel,
        client: Client,
        record: RequestRecord,
    ) -> tuple[Encoded, Future[Vectors]]:
        """Everything up to the engine's promise; blocking."""
        encoded = self._encode(check, call, model, record)
        self._limits.take_tokens(client, encoded.num_tokens)
        try:
            future = model.engine.submit(
                encoded.token_ids,
                priority=call.request.priority or 0,
                salt=self._salt(call.request, client),
            )
        except HexgridError:
            self._limits.give_back(client, encoded.num_tokens)
            raise
        return encoded, future

    def _salt(self, request: EmbeddingRequest, client: Client) -> Salt:
        """Whose caches are used: those of the request's salt, and of the client where each has its own."""
        return salt_of(client.name if self._config.isolate_caches else None, request.cache_salt)

    def _encode(
        self, check: Check, call: EmbeddingCall, model: ServedModel, record: RequestRecord
    ) -> Encoded:
        """Everything between the parsed call and token ids that the engine takes; blocking."""
        truncation = truncation_of(call.request, model)
        num_inputs, most = len(call.inputs), self._config.max_num_inputs
        if num_inputs == 0:
            raise RequestError("You must pass at least one prompt (input is empty)", param="input")
        if num_inputs > most:
            raise RequestError(
                f"A request takes at most {most} inputs, got {num_inputs}. Send them in several requests",
                param="input",
            )
        inputs = with_prompt(call.inputs, call.request, model)
        started = perf_counter()
        encoded = model.tokenizer.encode(
            inputs,
            add_special_tokens=call.request.add_special_tokens is not False,
            truncation=truncation,
            check=check,
        )
        model.metrics.phase("tokenize", record.timing.ended("tokenize", started))
        record.num_tokens, record.num_truncated = encoded.num_tokens, encoded.num_truncated
        model.check_dimensions(call.request.dimensions)
        model.tokenizer.check_ids(encoded.token_ids)
        if isinstance(inputs[0], list) and not self._config.trust_token_ids:
            record.has_foreign_ids = are_foreign(encoded.token_ids, model.tokenizer)
        return encoded

    def _note(self, record: RequestRecord, call: EmbeddingCall, model: ServedModel) -> None:
        record.model = model.name
        record.num_inputs = len(call.inputs)
        if self._config.log_inputs:
            record.inputs = beginnings(call.inputs, self._config.log_inputs)


def _always_wanted() -> None:
    """A `Check` that never gives up."""


def _is_short(call: EmbeddingCall, model: ServedModel) -> bool:
    num_inputs = len(call.inputs)
    if num_inputs > _SHORT_INPUTS:
        return False
    prompt = max(map(len, (call.request.instruction or "", *model.prompts.values())))
    return sum(map(len, call.inputs)) + num_inputs * prompt <= _SHORT_CHARS


def _count(model: ServedModel, encoded: Encoded) -> None:
    model.metrics.inputs.inc(len(encoded.token_ids))
    model.metrics.prompt_tokens.inc(encoded.num_tokens)
    model.metrics.truncated.inc(encoded.num_truncated)
    for ids in encoded.token_ids:
        model.metrics.input_tokens.observe(len(ids))
