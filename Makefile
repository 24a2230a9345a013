# make run       environment, then the notebook with its defaults -> out.ipynb
# make test      environment, then the whole test suite
# make lint      style and imports
# make notebooks bring every .py and its .ipynb into step

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NOTEBOOKS := run-expr.ipynb $(wildcard notebooks/*.ipynb)

# papermill and jupyter look for the python3 kernel of the environment they run in
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test lint notebooks clean

run: $(STAMP)
	papermill run-expr.ipynb out.ipynb -k python3 -p optimizer sassha

test: $(STAMP)
	pytest

lint: $(STAMP)
	ruff check .
	ruff format --check .

notebooks: $(STAMP)
	jupytext --sync $(NOTEBOOKS)

clean:
	rm -rf $(VENV) build out*.ipynb

# made once, and again when the dependencies change; torch and torchvision are resolved as one pair
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision -e '.[dev]'
	touch $@
