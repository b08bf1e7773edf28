"""A peer's virtual environment, made from its pinned requirements once and kept in build/peers."""

import hashlib
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_KEPT = _HERE.parents[1] / "build" / "peers"
# What a peer asks for and embedding does not: these wheels do not load beside a torch without CUDA.
_UNWANTED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}


def python_of(peer: str) -> Path:
    """The interpreter with the peer installed; the first call installs it, which takes minutes.

    Raises:
        CalledProcessError: pip failed; what it printed says why.
    """
    requirements = _HERE / "requirements" / f"{peer}.txt"
    pinned = hashlib.sha256(requirements.read_bytes()).hexdigest()
    directory = _KEPT / peer
    python, stamp = directory / "bin" / "python", directory / "installed"
    if not stamp.is_file() or stamp.read_text() != pinned:
        print(f"Installing {peer} into {directory}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        pip = [str(python), "-m", "pip", "--quiet"]
        subprocess.run([*pip, "install", "--requirement", str(requirements)], check=True)
        if peer in _UNWANTED:
            subprocess.run([*pip, "uninstall", "--yes", *_UNWANTED[peer]], check=True)
        stamp.write_text(pinned)
    return python
