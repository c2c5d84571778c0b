# make train · make test-fast · make test · make test-faults · make matrix · make results · make check: each builds .venv when it is missing or older than what it is made from.
PYTHON ?= python3
ENV ?= Humanoid
ALGO ?= dsac_t
ARGS ?=

VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python
CORES := $(shell nproc)
# In the order of tests/conftest.py, the longest first.
PARALLEL := --maxprocesses 8 --dist loadgroup --no-loadscope-reorder
# One more than cores, since many tests wait for processes that they start.
ALL_TESTS := $(PARALLEL) -n $(shell expr $(CORES) + 1)

.PHONY: train test-fast test test-faults matrix results check format clean

train: $(STAMP)  ## train ALGO on ENV; more settings in ARGS="seed=3 total_env_steps=2e6"
	$(RUN) -m dsac.train env=$(ENV) algo=$(ALGO) $(ARGS)

test-fast: $(STAMP)  ## while typing: the tests that neither train nor start processes
	$(RUN) -m pytest $(PARALLEL) -n $(CORES) -m "not slow and not faults" $(ARGS)

test: $(STAMP)  ## before a commit: the whole test suite but for the faults
	$(RUN) -m pytest $(ALL_TESTS) $(ARGS)

test-faults: $(STAMP)  ## before a release: the long ones: kills, power cuts, stops and full disks by the hundred
	$(RUN) -m pytest -m faults -s $(ARGS)

matrix: $(STAMP)  ## after a release of MuJoCo, torch, Gymnasium or Python: the fast tests with each, in environments of their own
	$(RUN) docs/versions.py $(ARGS)

results: $(STAMP)  ## README's and docs/results.md's tables and figures anew, from what lies in docs/results/
	$(RUN) docs/results.py

check: $(STAMP)  ## what CI runs: lint, types, tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest $(ALL_TESTS)

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
