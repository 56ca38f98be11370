# Everything runs in .venv; it is made on the first call and again when the dependencies change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp-setup
ESCNN  := .venv-escnn
SITE   := -c 'import site; print(site.getsitepackages()[0])'

.DEFAULT_GOAL := help
.PHONY: help setup demo test escnn lint types docs clean

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
test: lint types escnn ## check style and types, then run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Sphinx is no part of what tests need, so it has its own stamp.
$(VENV)/.stamp-docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/.stamp-docs ## build the site with all notebooks run, into docs/_build/html (SMOKE=1: small runs)
	OMP_NUM_THREADS=1 PDEGCNN_DOCS_SMOKE=$(SMOKE) $(BIN)/python -m sphinx -W --keep-going -q -E -j auto -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# escnn needs numpy<2 (so Python 3.12 at most). Its environment sees the packages of .venv, after its own.
escnn: $(STAMP) ## run the tests against escnn, in an environment of their own
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  $(MAKE) --no-print-directory $(ESCNN)/.stamp-setup && OMP_NUM_THREADS=1 $(ESCNN)/bin/python -m pytest tests/escnn; \
	else echo 'tests against escnn left out: it has no numpy for this Python'; fi

$(ESCNN)/.stamp-setup: tests/escnn/requirements.txt
	@test -x $(ESCNN)/bin/python || $(BIN)/python -m venv $(ESCNN)
	@$(ESCNN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/escnn/requirements.txt
	@$(BIN)/python $(SITE) > "$$($(ESCNN)/bin/python $(SITE))/zz_main.pth"
	@touch $@

clean: ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) $(ESCNN) demo build dist docs/_build docs/api .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
