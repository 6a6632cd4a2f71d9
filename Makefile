# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test test-all lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed (PYTHON=/path/to/python3.11 make ...)" if sys.version_info < (3, 11) else 0)'
	@echo "Install 1 of 3: an environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@echo "Install 2 of 3: PyTorch (minutes; it is the largest download)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@echo "Install 3 of 3: Ray, MLflow, FAISS and the others (minutes)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python -m jobs.demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

test-all: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) runs
