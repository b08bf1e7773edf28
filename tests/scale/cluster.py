"""A real cluster of Ray on this machine, in processes of its own, deployed to by the real command."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.hexgrid_process import HEXGRID, environment
from tests.server.running import DEADLINE, new_client, wait_until

RAY = str(Path(sys.executable).with_name("ray"))
_DEPLOY_SECONDS = 240.0
# How often figures reach the autoscaler. By default every ten seconds.
_QUICK = {
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
}


class Cluster:
    """One node with two processors that are not told of the tests' own use."""

    def __init__(self, directory: Path, **variables: str) -> None:
        """`variables` are those of the node's processes."""
        token = directory / "token"
        token.write_text(secrets.token_hex(32))
        self._directory = directory
        self._ports = _free_ports(5)
        self.variables = (
            _QUICK
            | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
            | {"RAY_USAGE_STATS_ENABLED": "0"}
            | variables
        )
        gcs, dashboard, client, agent, self._http = self._ports
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        ports = {
            "--port": gcs,
            "--dashboard-port": dashboard,
            "--ray-client-server-port": client,
            "--dashboard-agent-listen-port": agent,
        }
        with (directory / "ray.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(RAY, "start", "--head", "--block", "--num-cpus", "2"),
                    *(str(word) for port in ports.items() for word in port),
                    *("--object-store-memory", "150000000"),
                    # Unix sockets are in it, whose paths are short.
                    *("--temp-dir", f"/tmp/ray-{secrets.token_hex(4)}"),
                ],
                env=environment(**self.variables),
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def deploy(self, args: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
        """`hexgrid deploy` of these args, done when all of it serves."""
        path = self._directory / "serve.yaml"
        path.write_text(yaml.safe_dump(self.document(args)))
        return subprocess.run(
            [
                *(HEXGRID, "deploy", "--ray", path, "--address", self.dashboard),
                *("--timeout", str(_DEPLOY_SECONDS)),
            ],
            env=environment(**self.variables),
            capture_output=True,
            text=True,
            timeout=_DEPLOY_SECONDS + DEADLINE,
            check=False,
        )

    def document(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A config of Ray Serve with one application."""
        return {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self._http},
            "applications": [
                {
                    "name": "hexgrid",
                    "route_prefix": "/",
                    "import_path": "hexgrid.scale:app",
                    "args": dict(args),
                }
            ],
        }

    def client(self, **headers: str) -> httpx2.Client:
        """A client of what is deployed, through Ray's proxy."""
        return new_client(f"http://127.0.0.1:{self._http}", headers=headers)

    def close(self) -> None:
        """End all of its processes, which are one session's."""
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(DEADLINE)

    def wait_until_up(self) -> None:
        """Return when the dashboard answers."""

        def answers() -> bool:
            assert self._process.poll() is None, (self._directory / "ray.log").read_text()
            try:
                return httpx2.get(f"{self.dashboard}/api/ray/version", trust_env=False) is not None
            except httpx2.HTTPError:
                return False

        wait_until(answers, "the dashboard answers")


@contextmanager
def running_cluster(directory: Path, **variables: str) -> Iterator[Cluster]:
    """A cluster while the block runs."""
    cluster = Cluster(directory, **variables)
    try:
        cluster.wait_until_up()
        yield cluster
    finally:
        cluster.close()


def replicas(client: httpx2.Client, deployment: str = "") -> set[int]:
    """Process ids of what serves: all, or those of one deployment (`ingress`, or a model's first name)."""
    found = set()
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if "replica" in sample.labels:
                name, _, pid = sample.labels["replica"].rpartition(":")
                if deployment in ("", name):
                    found.add(int(pid))
    return found


def wait_for_replicas(client: httpx2.Client, deployment: str, number: int) -> set[int]:
    """Their process ids, once there are so many."""
    wait_until(
        lambda: len(replicas(client, deployment)) == number, f"{number} replicas of {deployment}"
    )
    return replicas(client, deployment)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
