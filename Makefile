# make run       environment, then the notebook with its defaults -> out.ipynb
# make test      environment, then the whole test suite, a process per core; COVERAGE=1: and the lines that no test ran
# make browser   run-expr in JupyterLab in a headless Chromium (apt-get install chromium chromium-driver)
# make lint      style, imports and static types
# make notebooks bring every .py and its .ipynb into step
# make packages  the offline wheel bundle -> lop-packages/wheels
# make kaggle USER=name   kernel and data sets, ready for the kaggle command -> build/kaggle

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NOTEBOOKS := run-expr.ipynb $(wildcard notebooks/*.ipynb)

# papermill and jupyter look for the python3 kernel of the environment they run in
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test browser lint notebooks packages kaggle clean

run: $(STAMP)
	papermill run-expr.ipynb out.ipynb -k python3 -p optimizer sassha

test: $(STAMP)
	pytest -n auto $(if $(COVERAGE),--cov=lop --cov-report=term)

browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	pytest tests/browser

lint: $(STAMP)
	ruff check .
	ruff format --check .
	mypy

notebooks: $(STAMP)
	jupytext --sync $(NOTEBOOKS)

packages: $(STAMP)
	python lop-packages/build.py

# USER is also the login name that every shell sets: only the one given to make counts
kaggle: $(STAMP)
	$(if $(filter command line,$(origin USER)),,$(error give your Kaggle user name: make kaggle USER=name))
	test -d lop-packages/wheels || python lop-packages/build.py
	python lop-packages/kaggle_bundle.py $(USER)

clean:
	rm -rf $(VENV) build out*.ipynb

# made once, and again when the dependencies change; torch and torchvision are resolved as one pair
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision -e '.[dev]'
	touch $@
