# `make help` lists what there is to do.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN = $(VENV)/bin
# compat: the other editable modes hide the twistd plugins.
INSTALL = $(BIN)/python -m pip install --quiet --config-settings editable_mode=compat
SOURCES = setup.cfg pyproject.toml

# Processes that run tests: one for each processor. Trial's --debug and --profile want JOBS= for none beside its own.
JOBS ?= auto
# Tests start some hundred programs, each of which would compile all of our modules where it may not keep them; and
# what Hypothesis has found stays for the next run, wherever the processes work.
TESTING = env -u PYTHONDONTWRITEBYTECODE HYPOTHESIS_STORAGE_DIRECTORY=$(CURDIR)/.hypothesis

.DEFAULT_GOAL := help

.PHONY: run
run: $(VENV)/.installed ## Start all services on loopback (CONFIG=FILE.toml for your own)
	$(BIN)/twistd -n --pidfile= netsuite --table $(if $(CONFIG),--config $(CONFIG))

# At its end Python's warnings are shown, which more than one process write to the log alone.
.PHONY: test
test: $(VENV)/.installed-test ## Run all tests (TESTS=tests.echo for some, JOBS= in one process)
	$(TESTING) $(BIN)/trial $(addprefix --jobs=,$(JOBS)) $(TRIALFLAGS) $(or $(TESTS),tests)
	@grep -sh 'Warning: ' _trial_temp/test.log || true

.PHONY: soak
soak: $(VENV)/.installed-test ## Long fault runs (half an hour)
	$(BIN)/trial tests.soak.auditfaults tests.soak.dripping tests.soak.execfloods \
		tests.soak.fileskills tests.soak.filesraces tests.soak.filestrees

.PHONY: lint
lint: $(VENV)/.installed-test $(VENV)/.installed-lint $(VENV)/.installed-bench ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/.installed-docs ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

.PHONY: bench
bench: $(VENV)/.installed-bench ## Measure echo, proxy, exec and files beside their peers (half an hour)
	bench/install-peers
	$(BIN)/python -m bench echo
	$(BIN)/python -m bench proxy
	$(BIN)/python -m bench memory
	$(BIN)/python -m bench exec
	$(BIN)/python -m bench files
	$(BIN)/python -m bench page

.PHONY: wheel
wheel: $(VENV)/.installed-test ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

.PHONY: clean
clean: ## Remove what was built and installed here
	rm -rf $(VENV) build dist docs/_build bench/build _trial_temp* *.egg-info

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-%: $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) -e '.[$*]'
	@touch $@ $(VENV)/.installed
