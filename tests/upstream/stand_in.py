"""Takes the command line of `vllm serve` and becomes a hexgrid server of the same model: quick to start."""

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--uds", required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--max-model-len", required=True)
    parser.add_argument("--runner", choices=["pooling"], required=True)
    parser.add_argument("--fail", action="store_true")
    options = parser.parse_args()
    sys.stdout.write(
        f"pid={os.getpid()} ours={[name for name in os.environ if name.startswith('HEXGRID')]}\n"
    )
    sys.stdout.write("=" * 10_000 + "\n")
    if options.fail:
        sys.exit("no room on the device")
    sys.stdout.flush()
    hexgrid = str(Path(sys.executable).with_name("hexgrid"))
    serve = ["serve", f"{options.served_model_name}={options.model}", "--dtype", "float32"]
    limits = ["--max-model-len", options.max_model_len, "--uds", options.uds]
    key = os.environ.pop("VLLM_API_KEY", None)
    environ = os.environ | ({} if key is None else {"HEXGRID_API_KEY": key})
    os.execve(hexgrid, [hexgrid, *serve, *limits], environ)


if __name__ == "__main__":
    main()
