"""One HTTP connection, held to limits that uvicorn's own protocol lacks: sizes, times, numbers.

The rules:
1. A request's line and headers are bounded in bytes and number, and so is what the parser holds of anything
   that it has not told of yet (a header's value, a chunk's extensions, trailers).
2. While a request arrives its time is taken, and while an answer lies unread (arrival.py).
3. A refusal ends the connection: it is written when all answers before it are.
4. After the last answer, be it a refusal or one to a client that keeps no connection, what still comes is
   thrown away, so that the client can send to its end and then reads it.
"""

import asyncio
import http
from asyncio import Transport
from typing import Any, ClassVar, Literal, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hexgrid.config import ServerConfig
from hexgrid.errors import (
    HeadersTooLargeError,
    HexgridError,
    SchemaError,
    SlowRequestError,
    TooManyConnectionsError,
    UrlTooLongError,
)
from hexgrid.metrics import Metrics
from hexgrid.server.arrival import Arrival, ReaderWatch
from hexgrid.server.errors import error_response
from hexgrid.server.transports import AnswerTransport, CountedTransport

# Requests that may wait behind the one that is answered; hardly any client sends one.
MAX_PIPELINED = 8
# How long a client may go on sending after the last answer: closed at once, the connection could lose it.
_LINGER_SECONDS = 1.0
# Connections past the limit that are told so at a time; more are closed without a word.
_MAX_TURNED_AWAY = 64
_REASONS: dict[type[HexgridError], str] = {
    UrlTooLongError: "url_bytes",
    HeadersTooLargeError: "headers",
}

Phase = Literal["between", "head", "body"]


class Connection(HttpToolsProtocol):
    """See the rules above; `limits` and `metrics` are the server's."""

    limits: ClassVar[ServerConfig]
    metrics: ClassVar[Metrics]
    turned_away: ClassVar[set["Connection"]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase: Phase = "between"
        self._num_headers = self._num_head_bytes = 0
        self._num_untold_bytes = 0  # received since the parser told of anything
        self._fault: HexgridError | None = None  # what a callback of the parser found
        self._refusal: HexgridError | None = None
        self._is_ending = False  # the last answer is written
        self._linger_timer: asyncio.TimerHandle | None = None
        self._answered: RequestResponseCycle | None = None  # `cycle` is the last in line

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        counted = CountedTransport(transport)
        super().connection_made(cast("Transport", counted))
        self._answers = AnswerTransport(self.loop, counted, self._close_gently)
        self._arrival = Arrival(
            self.loop,
            self.limits,
            is_paused=lambda: self.flow.read_paused,
            on_late=self._on_late,
        )
        self._reader = ReaderWatch(self.loop, self.limits, counted, self._on_stalled)
        if len(self.connections) > self.limits.max_connections:
            self._turn_away()
        else:
            self._arrival.expect_head()
        self.metrics.connections.set(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answered is not None:
            # uvicorn tells the last in line alone.
            self._answered.disconnected = not self._answered.response_complete
            self._answered.message_event.set()
        self._arrival.stop()
        self._reader.stop()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self.turned_away.discard(self)
        self.metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self._has_ended():
            return
        self._num_untold_bytes += len(data)
        super().data_received(data)
        if self._has_ended():
            return
        if self._num_untold_bytes > self.limits.max_header_bytes:
            self._refuse(self._too_large("more"), "headers")
        else:
            self._time_arrival()

    def send_400_response(self, msg: str) -> None:
        """The parser failed, or one of the callbacks below raised what it found."""
        error = self._fault or SchemaError(msg)
        self._refuse(error, _REASONS.get(type(error), "malformed"))

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        self._num_untold_bytes = self._num_headers = self._num_head_bytes = 0
        self._phase = "head"
        self._arrival.stop()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        most = self.limits.max_url_bytes
        if len(self.url) > most:
            self._find(
                UrlTooLongError(
                    f"The request's path and query have {len(self.url)} bytes or more; at most {most} are "
                    "taken. Send what is to be embedded in the body of a POST"
                )
            )
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_headers += 1
        most = self.limits.max_num_headers
        if self._num_headers > most:
            self._find(
                HeadersTooLargeError(f"The request has more than {most} headers, the most it may")
            )
        self._count_head(len(name) + len(value))
        if self._phase == "head":  # trailers, which come after the body, are nobody's
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._find(
                SchemaError(
                    f"More than {MAX_PIPELINED} requests were sent on one connection without waiting for "
                    "their answers"
                )
            )
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]
        self._phase = "body"

    def on_body(self, body: bytes) -> None:
        self._num_untold_bytes = 0
        self._arrival.count_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._num_untold_bytes = 0
        self._phase = "between"
        super().on_message_complete()

    def _count_head(self, num_bytes: int) -> None:
        self._num_untold_bytes = 0
        self._num_head_bytes += num_bytes + len(": \r\n")
        if self._num_head_bytes > self.limits.max_header_bytes:
            self._find(self._too_large(f"{self._num_head_bytes} or more"))

    def _too_large(self, found: str) -> HeadersTooLargeError:
        return HeadersTooLargeError(
            f"The request's line and headers have {found} bytes; at most "
            f"{self.limits.max_header_bytes} are taken"
        )

    def _find(self, fault: HexgridError) -> None:
        """Stop the parser, which then has `send_400_response` called."""
        self._fault = fault
        raise fault

    # What is late.

    def _time_arrival(self) -> None:
        """See that the time is taken which the state of the connection asks for."""
        if self._phase == "between" and self._is_answering():
            self._arrival.stop()
        elif self._arrival:
            return
        elif self._phase == "body":
            self._arrival.expect_body()
        elif self._phase == "head":
            self._arrival.expect_head()
        else:  # the request had its answer before it had arrived
            self._await_request()

    def _on_late(self, error: SlowRequestError, reason: str) -> None:
        if self._phase == "between":  # nothing was asked
            self.metrics.refused_connections.labels(reason).inc()
            self.transport.close()
        else:
            self._refuse(error, reason)

    def _on_stalled(self) -> None:
        self.metrics.refused_connections.labels("slow_reader").inc()
        self.transport.abort()

    # What is refused.

    def _turn_away(self) -> None:
        """One connection too many: it does not count, and is told so if not too many are being told."""
        self.connections.discard(self)
        most = self.limits.max_connections
        if len(self.turned_away) >= _MAX_TURNED_AWAY:
            self.metrics.refused_connections.labels("max_connections").inc()
            self.transport.abort()
            return
        self.turned_away.add(self)
        self._refuse(
            TooManyConnectionsError(
                f"The server has {most} connections open, as many as it may. Try again later"
            ),
            "max_connections",
        )

    def _refuse(self, error: HexgridError, reason: str) -> None:
        """Answer with `error` after all that is being answered, and end the connection."""
        self.metrics.refused_connections.labels(reason).inc()
        self._refusal = error
        self._arrival.stop()
        self._unset_keepalive_if_required()
        if self._phase != "body":
            # Else the application has the request, and counts it as one whose client is gone.
            self.metrics.rejected("", error.reason)
            if not self._is_answering():
                self._say_refusal()
        elif self.pipeline:  # the request at fault is the last in line
            self.pipeline.popleft()
        elif self.cycle.response_complete:
            self._close_gently()
        elif self.cycle.response_started:
            self.cycle.keep_alive = False
        else:
            self.cycle.disconnected = True  # so that nothing else is written, not even a 100
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
            self._say_refusal()

    def _say_refusal(self) -> None:
        assert self._refusal is not None
        response = error_response(self._refusal)
        status = http.HTTPStatus(response.status_code)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(line + head + b"\r\n" + bytes(response.body))
        self._close_gently()

    def _close_gently(self) -> None:
        if self._is_ending or self.transport.is_closing():
            return
        self._is_ending = True
        self._arrival.stop()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._linger_timer = self.loop.call_later(_LINGER_SECONDS, self._close)
        else:  # TLS
            self._close()

    def _close(self) -> None:
        self.transport.close()
        self._reader.start()

    def _has_ended(self) -> bool:
        return self._refusal is not None or self._is_ending or self.transport.is_closing()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or not (cycle is None or cycle.response_complete)

    # What is answered.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._answers.flush()
        if self._is_ending:
            self.server_state.total_requests += 1
        elif self._refusal is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._say_refusal()
        if self.transport.is_closing():
            self._reader.start()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.start()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # an answer is still on its way
            self._reader.start()
            self._await_request()
        else:
            super().timeout_keep_alive_handler()

    def _await_request(self) -> None:
        """As uvicorn does it after an answer."""
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


def http_options(config: ServerConfig, metrics: Metrics) -> dict[str, Any]:
    """What uvicorn.Config is to be told, so that its connections keep to `config`."""
    bound = {"limits": config, "metrics": metrics, "turned_away": set()}
    return {
        "http": type("Connection", (Connection,), bound),
        "timeout_keep_alive": config.keep_alive_timeout,
    }
