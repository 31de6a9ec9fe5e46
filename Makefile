# Everything runs in .venv, which the first command makes. A Python of your choice: make test PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PROJECTS := pyproject.toml integrations/langchain/pyproject.toml integrations/llamaindex/pyproject.toml
# All three in one command, so that each finds the others here and not in a package index.
PACKAGES := -e '.[dev]' -e integrations/langchain -e integrations/llamaindex
INSTALLED := $(VENV)/.installed

MATRIX := .venv-matrix
ROWS := $(patsubst integrations/matrix/%.txt,%,$(sort $(wildcard integrations/matrix/*.txt)))
PACKAGES_langchain := -e '.[pytest,vector]' -e integrations/langchain -e integrations/llamaindex
PACKAGES_llamaindex := -e '.[pytest]' -e integrations/llamaindex

new_enough := 'import sys; sys.exit(sys.version_info < (3, 11))'
find_python = for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c $(new_enough) 2>/dev/null && echo $$name && break; done
PYTHON := $(or $(PYTHON),$(shell $(find_python)))

# $(call install,folder,packages): make an environment, if it is not there, and install packages into it.
define install
"$(PYTHON)" -c $(new_enough) 2>/dev/null || { echo "AMFS needs Python 3.11 or newer; say where: PYTHON=..." >&2; exit 1; }; \
set -e; if command -v uv >/dev/null; then \
	echo "making $(1) with uv and $$($(PYTHON) --version); once, a few seconds"; \
	test -x $(1)/bin/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(1); \
	uv pip install --quiet --python $(1)/bin/python $(2); \
else \
	echo "making $(1) with pip and $$($(PYTHON) --version); once, a minute or two"; \
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(1); \
	$(1)/bin/python -m pip install -qq --disable-pip-version-check $(2); \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint check bench eval test-matrix

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/'

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

test-matrix: $(ROWS:%=test-matrix/%) ## the integrations with the oldest and newest versions they allow; ROWS=... for some

test-matrix/%: $(MATRIX)/%/.installed
	@echo "== $*"
	@$(MATRIX)/$*/bin/python -m pytest -q -n $(JOBS) integrations/$(firstword $(subst -, ,$*))/tests

.PRECIOUS: $(MATRIX)/%/.installed

$(INSTALLED): $(PROJECTS)
	@$(call install,$(VENV),$(PACKAGES))
	@touch $@

# A row is a file of requirements; its name begins with the integration whose tests it is for.
$(MATRIX)/%/.installed: integrations/matrix/%.txt $(PROJECTS)
	@$(call install,$(MATRIX)/$*,$(PACKAGES_$(firstword $(subst -, ,$*))) -r $<)
	@touch $@
