"""One cluster for the tests of the session, and clients of what they deploy."""

from collections.abc import Iterator

import pytest

from tests.scale.cluster import Cluster, running_cluster
from tests.server.conftest import callers, own_ids, runner
from tests.server.redis_server import redis_server

__all__ = ["callers", "cluster", "own_ids", "runner"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without any application yet; limits of keys are counted in a Redis of its own."""
    directory = tmp_path_factory.mktemp("cluster")
    with (
        redis_server(directory) as url,
        running_cluster(directory, HEXGRID_RATE_LIMIT_STORE=url.value) as cluster,
    ):
        yield cluster
