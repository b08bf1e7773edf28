"""The console as a browser fetches it: without a key, whole, under a prefix, and held to a strict policy.

What it does in a browser is in tests/browser/.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2
import pytest

from hexgrid import console
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.server.console import NAMES, PATHS
from tests.server.running import KEY, error, metric, serving_one

PREFIX = "/gw/v1"
PAGES = ["/", "/docs"]
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


@pytest.fixture(scope="module")
def guarded(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server with a key; its client has none."""
    with serving_one(tiny_model, api_key=(Secret(KEY),)) as client:
        yield client


@pytest.fixture(scope="module")
def prefixed(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """The same behind a proxy's prefix."""
    with serving_one(tiny_model, api_key=(Secret(KEY),), root_path=PREFIX) as client:
        yield client


class Page(HTMLParser):
    """What a page asks the browser for, and what would be inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.inline.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
            if name in ("src", "href"):
                self.links.append(value or "")


def imports(script: str) -> list[str]:
    return re.findall(r'^import .*?from "(.+?)";', script, re.MULTILINE | re.DOTALL)


def test_every_file_of_the_package_is_served() -> None:
    files = {path.name for path in console.DIRECTORY.iterdir() if path.is_file()}

    assert {path.rpartition("/")[2] for path in PATHS - {*PAGES}} | {
        *console.PAGES.values()
    } == files - {"__init__.py"}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_no_key_is_needed_and_the_policy_is_strict(guarded: httpx2.Client, path: str) -> None:
    answer = guarded.get(path)

    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert answer.status_code == 200
    assert policy == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/console/main.js", "text/javascript; charset=utf-8"),
        ("/console/base.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ],
)
def test_each_kind_of_file_is_what_it_says(
    guarded: httpx2.Client, path: str, media_type: str
) -> None:
    assert guarded.get(path).headers["content-type"] == media_type


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_inline_and_leads_to_files_that_are_there(
    guarded: httpx2.Client, path: str
) -> None:
    page = Page(guarded.get(path).text)

    assert page.inline == []
    assert len(page.links) > 5
    for link in page.links:
        # Relative, so that it works under any prefix.
        assert not link.startswith(("/", "http")), link
        assert guarded.get(f"/{link.removeprefix('./').partition('#')[0]}").status_code == 200, link


def test_scripts_import_only_each_other_and_each_is_used(guarded: httpx2.Client) -> None:
    pages = [Page(guarded.get(path).text) for path in PAGES]
    wanted = {f"/{link}" for page in pages for link in page.links if link.endswith(".js")}
    seen: set[str] = set()
    while wanted:
        path = wanted.pop()
        seen.add(path)
        for module in imports(guarded.get(path).text):
            assert module.startswith("./"), module
            wanted |= {f"/console/{module.removeprefix('./')}"} - seen

    assert seen == {path for path in PATHS if path.endswith(".js")}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_no_file_names_another_host(guarded: httpx2.Client, path: str) -> None:
    hosts = set(re.findall(r"https?://[^\s\"'`)$]+", guarded.get(path).text))

    assert hosts <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", ["/", "/console/main.js"])
def test_who_has_the_file_gets_it_no_second_time(guarded: httpx2.Client, path: str) -> None:
    tag = guarded.get(path).headers["etag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = guarded.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    changed = guarded.get(path, headers={"if-none-match": '"other"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, tag)


def test_each_file_has_a_tag_of_its_own(guarded: httpx2.Client) -> None:
    assert len({guarded.get(path).headers["etag"] for path in PATHS}) == len(PATHS)


@pytest.mark.parametrize("path", ["/", "/docs", "/console/main.js"])
def test_head_tells_the_headers_alone(guarded: httpx2.Client, path: str) -> None:
    head, got = guarded.head(path), guarded.get(path)

    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


def test_other_methods_are_refused(guarded: httpx2.Client) -> None:
    answer = guarded.post("/", json={})

    assert error(answer)["code"] == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/console", "/console/", "/console/nope.js", "/console/__init__.py", "/docs/", "/x"]
)
def test_nothing_beside_the_files_is_open(guarded: httpx2.Client, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", f"{PREFIX}/docs", "/", "/docs"])
def test_under_a_prefix_a_page_says_where_its_links_begin(
    prefixed: httpx2.Client, path: str
) -> None:
    text = prefixed.get(path).text

    assert f'<base href="{PREFIX}/">' in text
    assert text.count("<base") == 1


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_files_are_there_with_the_prefix_and_without(prefixed: httpx2.Client, prefix: str) -> None:
    assert prefixed.get(f"{prefix}/console/main.js").status_code == 200


def test_metrics_have_one_name_for_all_parts(guarded: httpx2.Client) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=guarded.base_url, headers=headers, trust_env=False) as client:

        def count(path: str) -> float:
            return metric(client, "http_requests_total", path=path)

        before = [count(path) for path in ("/", "/console", "other")]
        for path in ("/", "/console/main.js", "/console/base.css"):
            client.get(path)

        assert [count(path) for path in ("/", "/console", "other")] == [
            before[0] + 1,
            before[1] + 2,
            before[2],
        ]
    assert set(NAMES.values()) == {"/", "/docs", "/console"}


def test_without_the_console_its_paths_are_none(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, no_console=True) as client:
        assert {client.get(path).status_code for path in PATHS} == {404}
        assert client.get("/v1/models").status_code == 200


def test_without_the_console_and_without_a_key_nothing_is_told(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, no_console=True, api_key=(Secret(KEY),)) as client:
        assert {client.get(path).status_code for path in PATHS} == {401}


def test_the_files_stay_small() -> None:
    total = sum(path.stat().st_size for path in console.DIRECTORY.iterdir() if path.is_file())

    assert total < 150_000
