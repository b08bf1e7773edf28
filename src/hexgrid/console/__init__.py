"""The console's files: two pages, their styles and scripts, served as they lie here; no build makes them."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
# Where a page is served, and its file; all other files are parts of pages.
PAGES = {"/": "index.html", "/docs": "docs.html"}
