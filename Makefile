# Thin wrappers around the tools; their settings stand in pyproject.toml. `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test lint types fmt bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

setup: $(STAMP)  ## make .venv with the library, editable, and all that the checks need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'etc-data needs Python 3.11 or newer, found: '"$$($(PYTHON) --version 2>&1)" >&2; \
	  echo 'name another one: make setup PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## encrypt real photos, stream and decrypt them; the picture is build/demo/contact-sheet.png
	rm -rf build/demo
	$(BIN)/etc-data demo build/demo

test: $(STAMP)  ## run the tests and doctests; pass options as ARGS='-m slow'
	$(BIN)/python -m pytest -n auto --maxprocesses 2 $(ARGS)

lint: $(STAMP)  ## check style, format and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(STAMP)  ## check the types
	$(BIN)/mypy etc_data $(wildcard benchmarks)

fmt: $(STAMP)  ## format, and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)  ## measure how fast images are encrypted
	$(BIN)/python benchmarks/encrypt.py

clean:  ## remove all that was built, except .venv
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
