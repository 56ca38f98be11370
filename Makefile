# Everything runs in .venv. Each target installs what it needs and no more, on its first call and again when the dependencies change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ESCNN  := .venv-escnn
SITE   := -c 'import site; print(site.getsitepackages()[0])'
# Two test processes share the machine. Waiting threads sleep instead of spinning: much faster when other programs run too.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2
# Tests that compare numbers which a processor or a number of threads could change.
NUMERICAL := $(addprefix tests/,golden laws kernels spaces surface sphere ops pde nn gauge reversible models)

PROSE := README.md CONTRIBUTING.md CHANGELOG.md docs pdegcnn examples tools benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help setup demo test portable escnn lint types docs gpu clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(VENV)/.stamp-dev ## make .venv for development: tests, releases, pre-commit

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pdegcnn needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV)

# The library and the examples are installed, with the pinned versions: what the demo needs.
$(VENV)/.stamp-examples: pyproject.toml examples/pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing pdegcnn and its examples into $(VENV) (a few minutes the first time) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -e ./examples
	@touch $@

# .stamp-NAME: so is the extra NAME of pyproject.toml.
$(VENV)/.stamp-%: $(VENV)/.stamp-examples pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing the extra "$*" into $(VENV) (a few minutes the first time) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

# The demo needs the library, matplotlib and scikit-image: neither Lightning nor the data sets of the other examples.
$(VENV)/.stamp-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing pdegcnn and what its demo needs into $(VENV) (a few minutes the first time) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

demo: $(VENV)/.stamp-demo ## learn textures upright, recognise them turned, beside a plain CNN (3 minutes), write demo/; SEED=1
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/demo.py --seed $(or $(SEED),0)

lint: $(VENV)/.stamp-test ## check style, formatting, the direction of imports, spelling and wording
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/codespell $(PROSE)
	$(BIN)/python -m tools.check_prose

types: $(VENV)/.stamp-test ## check type hints
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint types escnn ## check style and types, then run all tests
	OMP_NUM_THREADS=1 $(PYTEST)

portable: $(VENV)/.stamp-test ## run the numerical tests as on an old processor, with two threads
	OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=default $(PYTEST) $(NUMERICAL)

docs: $(VENV)/.stamp-docs ## build the site with all notebooks run, into docs/_build/html (SMOKE=1: small runs)
	OMP_NUM_THREADS=1 PDEGCNN_DOCS_SMOKE=$(SMOKE) $(BIN)/python -m sphinx -W --keep-going -q -E -j auto -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# Where there is no .venv, the Python of the machine, with its torch and triton.
gpu: ## check and time everything on a GPU (8 minutes), write docs/benchmarks/gpu-*; DRY=1: rehearse on the CPU
	PYTHONPATH=.:examples $(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu.run $(if $(DRY),--dry)

# escnn needs numpy<2 (so Python 3.12 at most). Its environment sees the packages of .venv, after its own.
escnn: $(VENV)/.stamp-test ## run the tests against escnn, in an environment of their own
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  $(MAKE) --no-print-directory $(ESCNN)/.stamp-setup && OMP_NUM_THREADS=1 $(ESCNN)/bin/python -m pytest tests/escnn; \
	else echo 'tests against escnn left out: it has no numpy for this Python'; fi

$(ESCNN)/.stamp-setup: tests/escnn/requirements.txt
	@test -x $(ESCNN)/bin/python || $(BIN)/python -m venv $(ESCNN)
	@$(ESCNN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/escnn/requirements.txt
	@$(BIN)/python $(SITE) > "$$($(ESCNN)/bin/python $(SITE))/zz_main.pth"
	@touch $@

clean: ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) $(ESCNN) demo .demo-training build dist docs/_build docs/api .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
