# Everything needs only python >= 3.11 and make; scripts/setup.sh brings the rest into .venv, made from the newest Python that serves
# (PYTHON=... names another), and is fast when nothing changed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint soak sanitize bench bench-safety docs wheels clean
BIN := .venv/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## make or refresh .venv
	@scripts/setup.sh

demo: setup ## real data, written by four processes at once, verified
	@$(BIN)/python examples/demo.py

test: setup ## style, types, import rules, documentation, tests
	@scripts/check.sh

lint: setup ## style, types, import rules, documentation
	@scripts/check.sh --no-tests

soak: setup ## every test, the long ones included; SCALE=3: three times as many cases
	@scripts/servers.sh gofakes3 azurite-blob versitygw
	@ZARRANT_SOAK=$${SCALE:-1} $(BIN)/python -m pytest -q -n 2 --dist=worksteal -m "soak or not soak" --timeout=3600

sanitize: setup ## the compiled kernels under the sanitizers of addresses and threads
	@scripts/sanitize.sh

bench: ## time it beside TensorStore, zarrs and zarr-python, on files and on an object store
	@scripts/setup.sh bench
	@scripts/servers.sh gofakes3
	@$(BIN)/python -m benchmarks

bench-safety: ## races, kills and readers, beside the same libraries
	@scripts/setup.sh bench
	@$(BIN)/python -m benchmarks.safety

docs: setup ## build the documentation into site/
	@$(BIN)/python -m mkdocs build --strict

wheels: ## a tested wheel for each Python here, into dist/
	@scripts/wheels.sh

clean: ## remove .venv and everything built
	rm -rf .venv build dist site .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
