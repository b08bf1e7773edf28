"""Every error that a user of hexgrid can meet; what it is on the wire stands on its class.

HexgridError                     500 InternalServerError
+-- ConfigError                  a setting is wrong: the command stops before anything is loaded
+-- CheckpointError              a checkpoint cannot be served: the command stops before the port opens
+-- DataError                    a file of evaluation data is not of its form: nothing is computed
+-- RemoteError                  another server, asked for vectors or figures, refuses or cannot be reached
|   +-- UnreachableError         it does not answer at the moment, and may later
+-- RequestError                 400 BadRequestError
|   +-- SchemaError              400 Bad Request (the body is not JSON, or a field has a wrong type)
|   +-- TooManyInputsError       400: several smaller requests would do
|   +-- UnauthorizedError        401
|   +-- ForbiddenError           403
|   +-- ModelNotFoundError       404
|   +-- ResourceNotFoundError    404: no such file or batch, or another key's
|   +-- SlowRequestError         408: its line, headers or body took too long to arrive
|   +-- BodyTooLargeError        413
|   +-- UrlTooLongError          414
|   +-- HeadersTooLargeError     431
|   +-- RateLimitedError         429, with Retry-After: what a key may use is used up
|       +-- OverloadedError      429, the same for what the server has room for
+-- EngineError                  500
|   +-- NonFiniteError           500: the forward pass gave NaN or infinity, in float32 too
|   +-- InputMemoryError         503: the device has too little memory for this input
|   +-- UpstreamError            502: the server that computes for us refuses this input
+-- EngineClosedError            503
+-- TooManyConnectionsError      503
+-- EngineUnwellError            503: no forward pass works at the moment
|   +-- EngineDeadError          503: none will in this process, which ends
+-- NotReadyError                503: what a probe is told
+-- UsageError                   the record of what was used cannot be written or read: a command stops
+-- BatchStoreError              the directory of files and batches cannot be used
+-- KeyStoreError                503: the file of keys cannot be used; a command that needs it fails
+-- RateLimitStoreError          503: the limits of keys, which servers share, cannot be counted
+-- DeadlineError                504

The body's shape is `{"error": {"message", "type", "param", "code"}}`, `code` being the HTTP status
(the contract of vLLM's server, whose type names are kept). `reason` is what /metrics counts a refusal under.
"""

from typing import ClassVar

from hexgrid.headers import MAX_INPUTS, MAX_TOKENS


class HexgridError(Exception):
    """Base of all; `param` names the request field at fault, `index` the input within the request."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "InternalServerError"
    reason: ClassVar[str] = "internal"
    # Whether its message may name files and settings: no client is told it.
    for_operator: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.index = index

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to the error."""
        return {}


class ConfigError(HexgridError):
    """A flag, an environment variable, or two of them together, cannot be honoured."""

    for_operator = True


class CheckpointError(HexgridError):
    """A checkpoint is missing, incomplete, of another architecture, or asks for what hexgrid refuses."""

    for_operator = True


class DataError(HexgridError):
    """A file of evaluation data is missing or not of its form."""

    for_operator = True


class RemoteError(HexgridError):
    """Another server, asked for vectors or figures, refuses, cannot be reached, or answers something else."""

    for_operator = True


class UnreachableError(RemoteError):
    """Another server does not answer at the moment, and may later."""


class RequestError(HexgridError):
    """The request asks for what cannot be given."""

    status = 400
    type = "BadRequestError"
    reason = "bad_request"


class SchemaError(RequestError):
    """The body is not JSON of the documented form."""

    type = "Bad Request"
    reason = "bad_schema"


class TooManyInputsError(RequestError):
    """More inputs, or more tokens of all of them, than one request may have; several may have them."""

    reason = "too_many_inputs"

    def __init__(
        self,
        message: str,
        *,
        param: str = "input",
        max_inputs: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.max_inputs = max_inputs
        self.max_tokens = max_tokens

    @property
    def headers(self) -> dict[str, str]:
        limits = {MAX_INPUTS: self.max_inputs, MAX_TOKENS: self.max_tokens}
        return {name: str(limit) for name, limit in limits.items() if limit is not None}


class UnauthorizedError(RequestError):
    """No key, or one that is not valid."""

    status = 401
    type = "AuthenticationError"
    reason = "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class ForbiddenError(RequestError):
    """The key is valid, but not for this."""

    status = 403
    type = "PermissionDeniedError"
    reason = "forbidden"


class ModelNotFoundError(RequestError):
    """`model` is not served here."""

    status = 404
    type = "NotFoundError"
    reason = "model_not_found"


class ResourceNotFoundError(RequestError):
    """There is no such file or batch for this key."""

    status = 404
    type = "NotFoundError"
    reason = "not_found"


class SlowRequestError(RequestError):
    """The request did not arrive in time, or too slowly."""

    status = 408
    type = "RequestTimeoutError"
    reason = "slow_request"


class UrlTooLongError(RequestError):
    """The request's target has more bytes than the server takes."""

    status = 414
    type = "UriTooLongError"
    reason = "url_too_long"


class HeadersTooLargeError(RequestError):
    """The request has more headers, or more bytes of them, than the server takes."""

    status = 431
    type = "RequestHeaderFieldsTooLargeError"
    reason = "headers_too_large"


class BodyTooLargeError(RequestError):
    """The body has more bytes than the server takes."""

    status = 413
    type = "RequestEntityTooLargeError"
    reason = "body_too_large"


class RateLimitedError(RequestError):
    """The key's limit is used up; `retry_after` is in seconds."""

    status = 429
    type = "RateLimitError"
    reason = "rate_limited"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after)}


class OverloadedError(RateLimitedError):
    """The queue is full, or too many requests are being answered."""

    reason = "overloaded"


class EngineError(HexgridError):
    """A forward pass failed for this input alone."""

    reason = "engine"


class NonFiniteError(EngineError):
    """The model gave NaN or infinity for this input, in its own precision and again in float32."""

    reason = "non_finite"


class InputMemoryError(EngineError):
    """The device has too little memory for this input, which was tried alone."""

    reason = "input_memory"
    status = 503
    type = "ServiceUnavailableError"


class UpstreamError(EngineError):
    """The server that computes for us refused this input, which was tried alone."""

    reason = "upstream"
    status = 502
    type = "BadGatewayError"


class EngineClosedError(HexgridError):
    """The engine stopped before it reached this request."""

    status = 503
    type = "ServiceUnavailableError"
    reason = "stopping"


class TooManyConnectionsError(HexgridError):
    """The server has as many connections as it may have."""

    status = 503
    type = "ServiceUnavailableError"
    reason = "too_many_connections"


class EngineUnwellError(HexgridError):
    """No forward pass works, whatever the input; requests are refused until one does."""

    reason = "engine_unwell"
    status = 503
    type = "ServiceUnavailableError"


class EngineDeadError(EngineUnwellError):
    """A forward pass hangs, the device is lost or the engine broke: only a new process can help."""

    reason = "engine_dead"


class NotReadyError(HexgridError):
    """Models of this server cannot answer requests."""

    reason = "not_ready"
    status = 503
    type = "ServiceUnavailableError"


class UsageError(HexgridError):
    """The record of what was used is missing, or cannot be written or read."""

    reason = "usage"
    for_operator = True


class BatchStoreError(HexgridError):
    """The directory of uploaded files and batches cannot be used."""

    reason = "batch_store"
    for_operator = True


class KeyStoreError(HexgridError):
    """The file of keys is missing, locked, not writable, or none of ours."""

    status = 503
    type = "ServiceUnavailableError"
    reason = "key_store"


class RateLimitStoreError(HexgridError):
    """What a key has used is counted where nothing answers."""

    status = 503
    type = "ServiceUnavailableError"
    reason = "rate_limit_store"


class DeadlineError(HexgridError):
    """The request was not answered within its time limit."""

    status = 504
    type = "GatewayTimeoutError"
    reason = "deadline"
