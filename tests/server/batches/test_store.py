"""The store asks the database for what it needs alone."""

import sqlite3
from contextlib import closing

import pytest

from hexgrid.server.batches import store

PAGES = [*store._NEWEST.values(), *store._OLDEST.values()]


@pytest.mark.parametrize("query", PAGES, ids=["newest files", "newest batches", "oldest files"])
def test_a_page_is_read_from_its_place_and_nothing_is_sorted(query: str) -> None:
    values = {"owner": "", "purpose": None, "after": None, "most": 2}
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(store._TABLES)
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    assert "USING INTEGER PRIMARY KEY (rowid" in plan[0]
    assert not any("TEMP B-TREE" in step for step in plan)
