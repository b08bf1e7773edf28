"""Hatchling's hook: compiles what the CPU runs between matrix products, for x86-64 Linux.

The compiler is Zig's, which comes from the package index, so that a machine needs none of its own, and which
makes libraries for old versions of glibc. On other platforms the wheel has none and the package does without.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/hexgrid/model/cpu_kernels.c")
GLIBC = "2.17"  # the oldest that it runs with: that of manylinux2014
# What torch calls a processor, and how the compiler is told.
PROCESSORS = {
    "avx2": ["-march=x86_64_v3"],
    "avx512": ["-march=x86_64_v4", "-mprefer-vector-width=512"],
}
# No flag that changes what NaN or infinity does.
FLAGS = [
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
]


class CustomBuildHook(BuildHookInterface[Any]):
    """Named by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if not _has_a_use():
            return
        source = Path(self.root) / SOURCE
        for processor, flags in PROCESSORS.items():
            _compile(source, flags, source.with_suffix(f".{processor}.so"))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC.replace('.', '_')}_x86_64"


def _has_a_use() -> bool:
    machine = (sys.platform, platform.machine(), platform.libc_ver()[0])
    return machine == ("linux", "x86_64", "glibc")


def _compile(source: Path, flags: list[str], library: Path) -> None:
    with TemporaryDirectory() as cache:
        caches = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        target = ["-target", f"x86_64-linux-gnu.{GLIBC}"]
        compiled = Path(cache) / library.name
        subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                *target,
                *FLAGS,
                *flags,
                "-o",
                compiled,
                source,
            ],
            env={**os.environ, **caches},
            check=True,
        )
        partial = library.with_suffix(".partial")
        partial.write_bytes(compiled.read_bytes())
        partial.replace(library)  # a server that runs keeps the one that it has
