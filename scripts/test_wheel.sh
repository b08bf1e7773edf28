#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment and run the tests against it, the sources out of reach.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m build --wheel --outdir "$work" .
"${PYTHON:-python3}" -m venv "$work/venv"
wheel=("$work"/hexgrid-*.whl)
"$work/venv/bin/pip" install --quiet "${wheel[0]}[dev]" --constraint constraints.txt
cp -r tests scripts benchmarks training deploy docs mkdocs.yml examples .dockerignore constraints.txt LICENSE NOTICE README.md CHANGELOG.md CONTRIBUTING.md pyproject.toml hatch_build.py "$work/"
cd "$work"
"$work/venv/bin/python" -c 'import hexgrid; assert "site-packages" in hexgrid.__file__, hexgrid.__file__'
"$work/venv/bin/python" -m pytest "$@"
