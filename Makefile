# Two commands, each from nothing: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint results clean

demo: $(VENV)/ready
	$(BIN)/tljax --config configs/dann.py --workdir runs/demo
	@echo "Pictures: runs/demo/figures/features.png and others beside it"

test: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# All experiments, or make results ONLY="domain_shift zero_shot"; it says beforehand how long they took.
results: $(VENV)/ready
	$(BIN)/python -m experiments $(ONLY)

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tljax needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) runs
