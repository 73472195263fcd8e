# Everything a newcomer needs; `make` alone lists it. Each target sets up .venv by itself when that is not done yet.
# PYTHON chooses the interpreter: make venv PYTHON=/path/to/python3.13

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint clean-demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.installed ## create .venv with torch, BasicSR and this package (once; several GB with CUDA)

$(VENV)/.installed: pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' sh scripts/setup_venv.sh '$(VENV)'

demo: $(VENV)/.installed ## compress a packaged network to 4 bits, test it, show the result (about 7 minutes)
	$(BIN)/python scripts/demo.py

test: $(VENV)/.installed ## unit and integration tests: CPU, no downloads (about 15 minutes on two cores)
	$(BIN)/pytest -m "not gpu and not data" -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed ## style, layers and types: ruff, import-linter, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

clean-demo: ## remove what the demo wrote
	rm -rf demo_output
