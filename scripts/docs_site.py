"""A hook of MkDocs: the README is the site's first page, and links that leave docs/ are checked and shown.

The pages are written to be read in the repository. So the README's links into docs/ lose that prefix, and a
link to a file outside of docs/ becomes its path, once it is known to be there.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
# A warning of MkDocs's own logger makes a strict build fail.
_logger = logging.getLogger("mkdocs.hooks.docs_site")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the README as index.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_within_docs(text, "README.md", "")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Mend the links of a page of docs/."""
    if page.file.src_uri == "index.md":
        return markdown
    return _within_docs(markdown, page.file.src_uri, "docs")


def _within_docs(text: str, page: str, directory: str) -> str:
    def mend(link: "re.Match[str]") -> str:
        label, target, anchor = link[1], link[2], link[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(directory, target))
        if not (ROOT / path).exists():
            _logger.warning("%s links to %s, which is not there", page, path)
        if path.startswith("docs/"):
            return f"[{label}]({path.removeprefix('docs/')}{anchor})"
        return label if label.strip("`/") == path else f"{label} (`{path}`)"

    return _LINK.sub(mend, text)
