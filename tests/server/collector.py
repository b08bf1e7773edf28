"""A collector of OpenTelemetry traces: a small HTTP server that decodes what the real exporter posts."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.server.running import DEADLINE


class Collector:
    """What arrived: spans, attributes of the resource, headers of the posts, and raw bytes."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.resource: dict[str, Any] = {}
        self.spans: list[Span] = []
        self.raw = b""
        self._news = threading.Condition()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        posted = ExportTraceServiceRequest.FromString(body)
        with self._news:
            self.paths.append(path)
            self.headers.append(headers)
            self.raw += body
            for of_resource in posted.resource_spans:
                self.resource |= attributes(of_resource.resource)
                for of_scope in of_resource.scope_spans:
                    self.spans += of_scope.spans
            self._news.notify_all()

    def wait_for(self, count: int) -> list[Span]:
        """All spans, once there are so many; parents first."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.spans) >= count, DEADLINE)
            return sorted(self.spans, key=lambda span: (bool(span.parent_span_id), span.name))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def attributes(of: Any) -> dict[str, Any]:
    """Attributes of a span or a resource as Python values."""
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in of.attributes
    }
