# Every target works on a machine that has only Python >= 3.11, make and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install serve test test-gpu test-vllm test-ray test-bulk test-ecosystem test-console pictures check format docs docs-site bench soak fuzz audit nano wheel-test clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py src/hexgrid/model/cpu_kernels.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]" --constraint constraints.txt
	touch $@

serve: install
	$(BIN)/hexgrid serve

# As many at a time as there are cores, but four: each has models and servers of its own.
test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# What needs a GPU, on a machine that has one; elsewhere all of it is skipped.
test-gpu: install
	$(BIN)/python -m pytest -m gpu tests/gpu

# The console in a real browser: Debian's chromium, $$CHROMIUM, or that of `playwright install chromium`.
test-console: install
	$(BIN)/python -m pytest -m browser tests/browser

# The same, for the docs' pictures, which it writes anew.
pictures: install
	CONSOLE_PICTURES=1 $(BIN)/python -m pytest -m browser tests/browser/test_pictures.py

# Real vLLM servers behind ours. The first run makes an environment for them: minutes, and 3 GB in build/peers.
test-vllm: install
	$(BIN)/python -m pytest -m vllm --timeout 900 tests/vllm

# A real cluster of Ray on this machine, and the charts; about fifteen minutes on two cores.
test-ray: install
	$(BIN)/pip install --quiet --editable ".[dev,test-ray]" --constraint constraints.txt
	$(BIN)/python -m pytest -m ray --timeout 900 tests/scale tests/jobs

# A bulk job of so many texts, killed three times: some minutes.
BULK_ROWS ?= 200000
test-bulk: install
	BULK_ROWS=$(BULK_ROWS) $(BIN)/python -m pytest -m bulk -rP --timeout 1800 tests/jobs

# The programs of examples/ with the packages that they are about: an environment of their own of some GB, and npm.
ECOSYSTEM := build/ecosystem/.installed
SITE := build/site/.installed
$(ECOSYSTEM): tests/ecosystem/requirements.txt examples/node/package-lock.json
	@command -v npm >/dev/null || { echo "There is no npm: install Node.js 20 or later with npm"; exit 1; }
	$(PYTHON) -m venv build/ecosystem
	build/ecosystem/bin/pip install --quiet --requirement tests/ecosystem/requirements.txt
	npm ci --prefix examples/node --silent --no-audit --no-fund
	touch $@

test-ecosystem: install $(ECOSYSTEM) $(SITE)
	$(BIN)/python -m pytest -m ecosystem tests/ecosystem tests/test_docs.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/build_docs.py --check

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python scripts/build_docs.py

# docs/ as a site in build/docs, which needs no network to be built or read. A broken link is an error.
$(SITE): docs/requirements.txt
	$(PYTHON) -m venv build/site
	build/site/bin/pip install --quiet --no-deps --requirement docs/requirements.txt
	touch $@

docs-site: install $(SITE)
	$(BIN)/python scripts/build_docs.py --check
	NO_MKDOCS_2_WARNING=1 build/site/bin/mkdocs build --strict --quiet

# Measurements, not tests: minutes, and figures that depend on the machine.
bench: install
	$(BIN)/python benchmarks/throughput.py

# A real server under mixed load and overload for about so long: exits with 1 if it does not stand it.
SOAK_SECONDS ?= 900
soak: install
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS)

# What no client should send: so many cases over real sockets, then requests made from the API description.
FUZZ_CASES ?= 100000
FUZZ_SEED ?= 0
fuzz: install
	$(BIN)/pip install --quiet --editable ".[audit]" --constraint constraints.txt
	$(BIN)/python -m tests.fuzz --cases $(FUZZ_CASES) --seed $(FUZZ_SEED)
	$(BIN)/python -m tests.fuzz.description

# Known faults of what is installed (asks PyPI; fails where one cannot be looked up), and of our code what ruff's
# rules of security find, with nothing excused.
audit: install
	$(BIN)/pip install --quiet --editable ".[audit]" --constraint constraints.txt
	$(BIN)/ruff check --isolated --select S --ignore S101 src
	$(BIN)/pip-audit --local --skip-editable --strict

# Train the embedded model anew (docs/nano.md): make nano DATA=directory-of-the-training-files
nano: install
	$(BIN)/pip install --quiet --editable ".[train]" --constraint constraints.txt
	$(BIN)/python training/train_nano.py --data "$(DATA)" --work build/nano

# Build the wheel, install it without the sources beside it, run the tests against it.
wheel-test: install
	PYTHON=$(PYTHON) scripts/test_wheel.sh

clean:
	rm -rf $(VENV) build dist examples/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis src/hexgrid/model/*.so
