"""The console and the API reference: static files of ours, read once, answered without a key.

They hold no secret. All that they show comes from our API, with the key that the user gives the page.
"""

import hashlib
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hexgrid import console

# All from here alone, nothing inline, in nobody's frame; and no string becomes markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    # Asked for each time, so that a new version is seen at once; 304 unless something changed.
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = "/console"
# What metrics and the log call each path: the parts of pages share a name.
NAMES = {path: path for path in console.PAGES} | {
    f"{_FILES}/{file.name}": _FILES
    for file in sorted(console.DIRECTORY.iterdir())
    if file.suffix in _MEDIA_TYPES and file.name not in console.PAGES.values()
}
PATHS = frozenset(NAMES)


def console_routes(root_path: str) -> Iterator[Route]:
    """One route a file; a proxy serves them under `root_path`."""
    for path in NAMES:
        file = console.DIRECTORY / console.PAGES.get(path, path.rpartition("/")[2])
        content = file.read_bytes()
        if path in console.PAGES and root_path:
            # Links are relative; also where the page was opened without the slash at the prefix's end.
            content = content.replace(b"<head>", b'<head><base href="%b/">' % root_path.encode(), 1)
        yield Route(path, _StaticFile(content, _MEDIA_TYPES[file.suffix]).answer)


class _StaticFile:
    """Bytes that stay as they are while the server runs."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content
        self._media_type = media_type
        self._headers = _HEADERS | {"etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    async def answer(self, request: Request) -> Response:
        """The bytes, or 304 for who has them already."""
        known = request.headers.get("if-none-match", "").split(",")
        if {tag.strip().removeprefix("W/") for tag in known} & {self._headers["etag"], "*"}:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers, media_type=self._media_type)
