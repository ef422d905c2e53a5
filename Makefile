# `make demo` and `make test` need Python 3.11 or newer, pip and make; all else goes into .venv here.
# From elsewhere: make -C path/to/checkout test.

# PYTHON=...    the interpreter that makes .venv; the first one that is new enough if not given
# WORKERS=2     processes of the test suite
# ARGS="..."    handed on to the demo, to pytest or to every benchmark
#
# Flower's pins hold back what the rest has newer: the extra `federated` has .venv-federated for itself.

PYTHON ?= $(shell for python in python3 python python3.13 python3.12 python3.11; do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
WORKERS ?= 2

VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python -m
FLOWER := .venv-federated
comma := ,
FLOWER_READY := $(FLOWER)/.ready

# One thread per process: results repeat bit by bit, and two processes do not fight over two cores.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-federated lint check bench drawing clean

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile

setup: $(READY) ## make .venv with the tested versions (the other targets do this themselves)

demo: $(READY) ## learn, unlearn, measure against the retrained oracle, report; no network
	$(RUN) palimpsest demo $(ARGS)

test: $(READY) ## run every test
	@$(RUN) compileall -q src # read by every process of the suite, even where PYTHONDONTWRITEBYTECODE is set
	$(RUN) pytest -n $(WORKERS) --dist worksteal -r fEsx $(ARGS)

test-federated: $(FLOWER_READY) ## make .venv-federated and run there the tests of federated learning through Flower
	$(FLOWER)/bin/python -m pytest -r fEsx tests/federated_flower $(ARGS)

lint: $(READY) ## ruff, mypy --strict, import-linter
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy --strict
	$(VENV)/bin/lint-imports

check: lint test ## lint and test: all that CI runs

bench: $(READY) ## run the benchmarks that need no data; each prints a table
	@set -e; for file in extraction kill memory speed ug_clu; do echo "== $$file"; $(VENV)/bin/python "benchmarks/$$file.py" $(ARGS); done

drawing: $(READY) ## draw docs/rooms.svg, the rooms of the package
	$(VENV)/bin/python docs/rooms.py

clean: ## remove .venv, .venv-federated and what the tools left behind
	rm -rf $(VENV) $(FLOWER) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

# torch is installed first and on its own, so that pip takes exactly the wheel that is asked for and looks at no other.
# Some systems ship venv without ensurepip: there the pip outside installs the pip inside.
define install # folder, constraints, what
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one or say make PYTHON=path" >&2; exit 2; }
	test -x $(1)/bin/python || "$(PYTHON)" -m venv $(1) 2>/dev/null || "$(PYTHON)" -m venv --without-pip --clear $(1)
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m pip --python $(1)/bin/python install pip
	$(1)/bin/python -m pip install --quiet -c $(2) "$$(grep '^torch==' $(2))"
	$(1)/bin/python -m pip install --quiet -c $(2) -e $(3)
	@touch $(1)/.ready
endef

$(READY): pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt,'.[dev$(comma)pairing$(comma)trackers]')

$(FLOWER_READY): pyproject.toml constraints-federated.txt
	$(call install,$(FLOWER),constraints-federated.txt,'.[dev$(comma)federated]')
