# BFC. `make` alone lists what there is. Everything happens in this folder's own .venv.

VENV ?= .venv
PYTEST_FLAGS ?= -q
# Many tests wait for processes and servers: three files at a time keep two cores busy. The files that take minutes begin
# first, so that nobody waits for one of them at the end. TEST_PROCESSES=0 runs them one after another.
TEST_PROCESSES ?= 3
# Extra flags for pip, for instance another index: make install PIP_FLAGS="--extra-index-url …"
PIP_FLAGS ?=
DATA_DIR ?= var
PORT ?= 8321

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
API_ONLY := build/api-only
SOURCES := bfc_core service worker bfc_client migrations tests examples benchmarks

# One thread a process: the suite and the worker run several processes beside each other.
export OMP_NUM_THREADS ?= 1

.PHONY: help install demo up walk reproduce record bench test fuzz faults science check static format-check lint types \
	imports docs api-only audit fmt openapi clean

help: ## this list
	@echo "BFC: train and compare hierarchical learners. Needs Python 3.11 or newer and make."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- install -------------------------------------------------------------------------------------------

install: $(INSTALLED) ## make .venv and install everything, pinned (once; again when the pins change)

# A candidate must also start: version managers leave commands behind that only print advice.
$(BIN)/python:
	@for candidate in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
		echo "BFC needs Python 3.11 or newer, and found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one and name it, for instance: make install PYTHON=/usr/local/bin/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)" >&2; \
	if ! "$$python" -m venv $(VENV); then \
		rm -rf $(VENV); \
		echo "This Python cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	fi

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV) (a few minutes the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

# --- use -----------------------------------------------------------------------------------------------

demo: $(INSTALLED) ## run the flagship comparison on a stack of its own and print its table
	@$(BIN)/bfc demo

up: $(INSTALLED) ## keep the stack running (SQLite, file broker) and print its address
	@$(BIN)/bfc up --data-dir $(DATA_DIR) --port $(PORT)

reproduce: $(INSTALLED) ## run every preset (or name=…) and print expected beside measured
	@$(BIN)/python -m bfc_core.reproductions $(or $(name),all)

record: $(INSTALLED) ## run a preset and write docs/records/<date>-<name>/: make record name=bfc-alpha-squared
	@$(BIN)/python -m worker.records $(name)

walk: $(INSTALLED) ## send the smallest experiment through a running stack (BFC_URL, or the one of make up)
	@$(BIN)/bfc submit -f examples/smallest.yaml --watch

bench: $(INSTALLED) ## compare speed and memory side by side and record it (BENCH="cholesky ridge_path" for some)
	@$(BIN)/python -m benchmarks $(BENCH)

# --- check ---------------------------------------------------------------------------------------------

test: $(INSTALLED) ## the test suite without the full-size science runs (a few minutes)
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "not science and not faults" \
		tests/worker tests/service tests

faults: $(INSTALLED) ## the whole fault matrix and the chaos runs (BFC_CHAOS_SEED, BFC_CHAOS_PACKS)
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) -n $(TEST_PROCESSES) --dist loadfile --ignore tests/worker/test_chaos.py tests/worker
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) -s tests/worker/test_chaos.py

science: $(INSTALLED) ## the paper's numbers at full size
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) -n 2 --dist worksteal -m science

FUZZ_EXAMPLES ?= 200

fuzz: $(INSTALLED) ## a fuzzer reads docs/openapi.json and attacks the API, for longer than make test does
	@BFC_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) BFC_FUZZ_SEED=$${BFC_FUZZ_SEED:-$$RANDOM} \
		$(BIN)/python -m pytest $(PYTEST_FLAGS) -s tests/service/fuzz

# TESTED=1 says that `make test` has just passed on this very tree.
check: static $(if $(TESTED),,test) science api-only audit ## the whole gate
	@echo "make check: passed"

static: format-check lint types imports docs ## the part of the gate that runs nothing

format-check: $(INSTALLED) ## formatting
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "make fmt would reformat files" >&2; exit 1; }

lint: $(INSTALLED) ## ruff
	@$(BIN)/ruff check $(SOURCES)

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy

imports: $(INSTALLED) ## who may import whom
	@$(BIN)/lint-imports --no-logo

docs: $(INSTALLED) ## docs/openapi.json is what the service answers; documents name files that exist
	@$(BIN)/python -m service.schema --check docs/openapi.json
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) tests/deploy/test_documents.py

# The wheel, not the working tree, with the API's own dependencies only. The environment is kept
# between checks; the wheel is built and put in every time.
api-only: $(INSTALLED) $(API_ONLY)/.installed ## the API installs and starts without torch
	@rm -rf build/lib build/bdist.* build/wheel
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
	@$(API_ONLY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl
	@$(API_ONLY)/bin/python -I deploy/check_api_only.py

$(API_ONLY)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@rm -rf $(API_ONLY) build/lib
	@$(BIN)/python -m venv $(API_ONLY)
	@$(API_ONLY)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt '.[api]'
	@touch $@

audit: $(INSTALLED) ## known vulnerabilities of the pins; passes, loudly, where PyPI cannot be asked (BFC_REQUIRE_AUDIT=1: fails)
	@$(BIN)/python -m deploy.audit

fmt: $(INSTALLED) ## format, and repair what ruff can repair
	@$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

openapi: $(INSTALLED) ## write docs/openapi.json anew
	@$(BIN)/python -m service.schema docs/openapi.json

clean: ## remove what was built or measured here (not .venv, not var/)
	@rm -rf build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
