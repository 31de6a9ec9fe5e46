# Everything runs in .venv, which the first command makes. A Python of your choice: make test PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PROJECTS := pyproject.toml integrations/langchain/pyproject.toml integrations/llamaindex/pyproject.toml
# All three in one command, so that each finds the others here and not in a package index.
PACKAGES := -e '.[dev]' -e integrations/langchain -e integrations/llamaindex
INSTALLED := $(VENV)/.installed

new_enough := 'import sys; sys.exit(sys.version_info < (3, 11))'
find_python = for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c $(new_enough) 2>/dev/null && echo $$name && break; done
PYTHON := $(or $(PYTHON),$(shell $(find_python)))

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint check bench eval

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1	\2/'

venv: $(INSTALLED) ## .venv with AMFS, both integrations and the tools, all editable

demo: venv ## two agents tune a flaky service on branches of memory
	@$(BIN)/python notebooks/demo

test: venv ## every test, and the notebooks
	@$(BIN)/python -m pytest -q -n $(JOBS) --nbmake tests integrations notebooks

lint: venv ## style, import direction, types
	@echo "ruff check"; $(BIN)/ruff check --quiet
	@echo "ruff format"; $(BIN)/ruff format --check --quiet
	@echo "lint-imports"; $(BIN)/lint-imports --no-cache
	@echo "pyright"; $(BIN)/pyright

check: lint test ## what a change must pass

bench: venv ## the ratios of ARCHITECTURE.md, measured here
	@$(BIN)/python tests/benchmarks

eval: venv ## how well search answers questions, by words, by meaning, and by both
	@$(BIN)/python tests/evaluation

$(INSTALLED): $(PROJECTS)
	@"$(PYTHON)" -c $(new_enough) 2>/dev/null || { echo "AMFS needs Python 3.11 or newer; say where: PYTHON=..." >&2; exit 1; }
	@set -e; if command -v uv >/dev/null; then \
		echo "making $(VENV) with uv and $$($(PYTHON) --version); once, a few seconds"; \
		test -x $(BIN)/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); \
		uv pip install --quiet --python $(BIN)/python $(PACKAGES); \
	else \
		echo "making $(VENV) with pip and $$($(PYTHON) --version); once, a minute or two"; \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install -qq --disable-pip-version-check $(PACKAGES); \
	fi
	@touch $@
