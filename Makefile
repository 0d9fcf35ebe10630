# refsr-bench: `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench docs

help:  ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

install: $(STAMP)  ## create .venv with the tested versions of everything

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("refsr-bench needs Python 3.11 or newer; try: make install PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## build the embedded demo set, evaluate two models on it, print the signed leaderboard, write report and figure
	$(BIN)/refsr-bench build demo
	$(BIN)/refsr-bench eval bicubic --dataset demo --out runs/demo/bicubic --overwrite > /dev/null
	$(BIN)/refsr-bench eval c2matching-small --dataset demo --out runs/demo/c2matching-small --overwrite > /dev/null
	$(BIN)/refsr-bench leaderboard runs/demo
	$(BIN)/refsr-bench leaderboard runs/demo --format html --out runs/demo-report
	$(BIN)/refsr-bench build transformed --of demo --kind rotation --set limit=14 --set angles=none --out runs/demo-rotation > /dev/null
	$(BIN)/refsr-bench robustness c2matching-small oracle identity sift --dataset runs/demo-rotation --out runs/demo-robustness --overwrite > /dev/null
	$(BIN)/refsr-bench plot robustness runs/demo-robustness --metrics aee,pck@8 --show bars --out runs/demo-robustness.png

test: $(STAMP)  ## run all tests that need neither a GPU nor the network
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## benchmarks, as ratios against a plain baseline in the same run
	$(BIN)/python -m pytest -q benchmarks --benchmark-only

docs: $(STAMP)  ## regenerate the generated pages in docs/
	$(BIN)/python docs/generate.py
