# Two commands on a fresh clone: `make demo` and `make test`. Both set everything up.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_WORKERS ?= 2

.PHONY: demo test check lint types layers docs slow bench clean help

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps ./tests/plugin
	@touch $@

demo: $(READY) ## Compare full, head-only and LoRA tuning of a small packaged model (two to three minutes, offline)
	$(BIN)/loraudit demo --out demo

test: $(READY) ## Run the default tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

slow: $(READY) ## Run the slow tests, and those on public data where LORAUDIT_DATA is set
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m 'slow or real_data'

lint: $(READY) ## Style
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts

types: $(READY) ## Types: strict in the pure rooms
	$(BIN)/pyright

layers: $(READY) ## Imports go downwards only
	$(BIN)/lint-imports --no-cache

docs: $(READY) ## Generated parts of the docs agree with the program
	$(BIN)/python scripts/render_docs.py --check

check: lint types layers docs test slow ## Everything CI runs, and the slow tests

bench: $(READY) ## Measure scoring side by side with the straightforward way (minutes)
	$(BIN)/python benchmarks/scoring.py

clean: ## Remove what the targets above made
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
