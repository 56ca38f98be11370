# Everything runs in .venv; it is made on the first call and again when the dependencies change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp-setup

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## make .venv with the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pdegcnn needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0])'
	@echo 'Setting up $(VENV) (a few minutes the first time) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Waiting threads sleep instead of spinning: much faster when other programs want the processors too.
demo: $(STAMP) ## train on rotated digits beside a plain CNN (about 3 minutes), write demo/
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/demo.py

lint: $(STAMP) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## check type hints
	$(BIN)/pyright --pythonpath $(BIN)/python

# Two test processes share the machine, so each keeps to one thread.
test: lint types ## check style and types, then run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

clean: ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
