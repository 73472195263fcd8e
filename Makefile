# Everything a newcomer needs; `make` alone lists it. Each target sets up .venv by itself when that is not done yet.
# PYTHON chooses the interpreter that makes it: make venv PYTHON=/path/to/python3.12

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint clean-demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.installed ## make .venv with torch, BasicSR and this package (once; several GB with CUDA)

$(VENV)/.installed: setup.py constraints.txt
	@PYTHON='$(PYTHON)' sh scripts/setup_venv.sh '$(VENV)'

demo: $(VENV)/.installed ## compress a packaged network to 4 bits, test it, show the result (about 7 minutes)
	$(BIN)/python scripts/demo.py

test: $(VENV)/.installed ## unit and integration tests: CPU, no downloads
	$(BIN)/pytest -m "not gpu and not data"

lint: $(VENV)/.installed ## ruff's checks and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean-demo: ## remove what the demo wrote
	rm -rf demo_output
