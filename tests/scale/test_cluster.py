"""Replicas that die, come, go and are replaced while clients ask: each is answered, and rightly."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml

from hexgrid.encoding import Vectors
from hexgrid.server.key_store import KeyStore, Limits
from tests.cli.hexgrid_process import environment
from tests.scale.cluster import RAY, Cluster, replicas, wait_for_replicas
from tests.server.running import embed, metric, vectors, wait_until

pytestmark = pytest.mark.ray

NAME = "hexgrid/nano"
TEXTS = [f"Replica number {number} answers." for number in range(64)]


def deployment(
    *,
    server: Mapping[str, Any] | None = None,
    ingress: Mapping[str, Any] | None = None,
    **model: Any,
) -> dict[str, Any]:
    """Args with one small model, whose vectors are computed anew each time."""
    return {
        "server": {"allow_anonymous": True} | dict(server or {}),
        "engine": {"dtype": "float32", "result_cache_bytes": 0},
        "ingress": {"num_cpus": 0.1} | dict(ingress or {}),
        "models": [{"model": NAME, "num_cpus": 0.1} | model],
    }


def deployed(cluster: Cluster, **args: Any) -> None:
    done = cluster.deploy(deployment(**args))
    assert done.returncode == 0, done.stderr


class Load:
    """Clients that ask without a pause, each for texts of its own in turn, and what came of it."""

    def __init__(self, cluster: Cluster, expected: Vectors, num_clients: int) -> None:
        self._cluster = cluster
        self._expected = expected
        self._is_over = threading.Event()
        self._news = threading.Condition()
        self.num_answers = 0
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(num_clients)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, number: int) -> None:
        """Return when so many more were answered, or one was not."""
        with self._news:
            most = self.num_answers + number
            assert self._news.wait_for(lambda: self.failures or self.num_answers >= most, 120)

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _ask(self, number: int) -> None:
        with self._cluster.client() as client:
            while not self._is_over.is_set():
                number = (number + 5) % (len(TEXTS) - 4)
                failure = self._failure(client, slice(number, number + 4))
                with self._news:
                    self.num_answers += 1
                    if failure is not None:
                        self.failures.append(failure)
                    self._news.notify_all()

    def _failure(self, client: httpx2.Client, which: slice) -> str | None:
        try:
            response = embed(client, TEXTS[which])
        except httpx2.HTTPError as error:
            return repr(error)
        if response.status_code != 200:
            return f"{response.status_code} {response.text}"
        if not np.allclose(vectors(response), self._expected[which], atol=1e-5):
            return "other vectors"
        return None


@contextmanager
def load(cluster: Cluster, num_clients: int = 4) -> Iterator[Load]:
    """Clients that ask while the block runs."""
    with cluster.client() as client:
        load = Load(cluster, vectors(embed(client, TEXTS)), num_clients)
    try:
        yield load
    finally:
        load.end()


def test_a_replica_that_is_killed_loses_no_request(cluster: Cluster) -> None:
    deployed(cluster, min_replicas=2, max_replicas=2)
    with cluster.client() as client, load(cluster) as running:
        one, other = wait_for_replicas(client, NAME, 2)
        running.wait_for_more(20)

        os.kill(one, signal.SIGKILL)

        running.wait_for_more(100)
        wait_until(
            lambda: len(now := replicas(client, NAME)) == 2 and one not in now and other in now,
            "another replica is in its place",
        )
        running.wait_for_more(20)

    assert running.failures == []


def test_a_deployment_can_be_replaced_while_it_is_asked(cluster: Cluster) -> None:
    deployed(cluster, min_replicas=1, max_replicas=1)
    with cluster.client() as client, load(cluster) as running:
        before = replicas(client)
        running.wait_for_more(20)

        deployed(
            cluster, server={"max_num_inputs": 100}, min_replicas=1, max_replicas=1, num_cpus=0.2
        )

        running.wait_for_more(50)
        wait_until(lambda: not before & replicas(client), "no process of the old ones answers")
        running.wait_for_more(20)
        assert embed(client, ["a"] * 101).status_code == 400

    assert running.failures == []


def test_replicas_come_with_load_and_go_without(cluster: Cluster) -> None:
    deployed(
        cluster,
        min_replicas=1,
        max_replicas=2,
        target_queued_tokens=1,  # however fast it answers: what waits when Ray looks, and not how much
        upscale_delay_s=0.5,
        downscale_delay_s=2,
        look_back_period_s=2,
    )
    with cluster.client() as client:
        wait_for_replicas(client, NAME, 1)
        with load(cluster, 8) as running:
            wait_for_replicas(client, NAME, 2)
            running.wait_for_more(20)
        wait_for_replicas(client, NAME, 1)
        assert embed(client, TEXTS).status_code == 200

    assert running.failures == []


def test_the_metrics_are_those_of_all_processes_whoever_is_asked(cluster: Cluster) -> None:
    deployed(cluster, ingress={"num_replicas": 2}, min_replicas=2, max_replicas=2)
    with cluster.client() as client:
        wait_until(
            lambda: len(replicas(client, "ingress")) == len(replicas(client, NAME)) == 2,
            "two of both",
        )
        everyone = replicas(client)

        for _ in range(5):
            assert replicas(client) == everyone


def test_a_key_has_its_limit_once_however_many_answer(cluster: Cluster, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.sqlite3")
    # One a minute: however long twenty requests take, that is what more may be had.
    key = store.create("limited", Limits(rpm=1))
    free = store.create("free", Limits())
    server = {"key_store": str(store.file), "allow_anonymous": False}
    deployed(cluster, server=server, ingress={"num_replicas": 2})
    with (
        cluster.client(authorization=f"Bearer {free}") as operator,
        ThreadPoolExecutor(8) as callers,
        cluster.client(authorization=f"Bearer {key}") as client,
    ):
        wait_for_replicas(operator, "ingress", 2)
        asked = [callers.submit(embed, client, "Hello") for _ in range(20)]
        answers = [each.result() for each in asked]
        pids = sorted(replicas(operator, "ingress"))
        counted = [_answered(operator, pid) for pid in pids]

    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 19
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"1"}
    assert min(counted) > 0, "only one ingress was asked"


def _answered(client: httpx2.Client, pid: int) -> float:
    """Requests for embeddings that the ingress in this process has answered."""
    return metric(client, "http_requests_total", replica=f"ingress:{pid}", path="/v1/embeddings")


def test_without_a_key_nothing_is_served_unless_the_operator_says_so(cluster: Cluster) -> None:
    done = cluster.deploy(deployment(server={"allow_anonymous": False}))

    assert done.returncode == 1
    assert "No API key is set" in done.stderr


def test_rays_own_commands_deploy_it_as_well(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(cluster.document(deployment(names=["another"]))))
    done = subprocess.run(
        [Path(RAY).with_name("serve"), "deploy", path, "--address", cluster.dashboard],
        env=environment(**cluster.variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    with cluster.client() as client:
        wait_until(
            lambda: (
                client.get("/ready").status_code == 200
                and '"another"' in client.get("/v1/models").text
            ),
            "the new one answers",
        )
        assert embed(client, TEXTS, model="another").status_code == 200
