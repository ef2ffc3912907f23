# make demo | test | test-fast | test-keras | coverage | docs | bench | fuzz | format
# The environment in .venv is set up on the first call, and again only when pyproject.toml changes.

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
READY := .venv/.ready

# Packages are compiled when they are first imported. Without stored bytecode each test that starts a process would
# compile torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test tests test-fast test-keras check coverage docs bench fuzz format

demo: $(READY)
	$(BIN)/unbraid demo

# everything that a change must pass; the checks need one core, so the tests start beside them
test: $(READY)
	$(MAKE) --no-print-directory -j 2 check tests

tests: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal

# the same checks, without the slow tests: under a minute
test-fast: check
	HYPOTHESIS_PROFILE=fast $(BIN)/pytest -n 2 -m "not slow"

# files that Unbraid writes, loaded by Keras 3 and by tf-keras on TensorFlow, in an environment of its own
KERAS_PYTHON ?= .venv-keras/bin/python
test-keras: $(READY)
	test -x $(KERAS_PYTHON) || ($(PYTHON) -m venv .venv-keras && \
		$(KERAS_PYTHON) -m pip install --quiet 'tensorflow-cpu>=2.16' tf-keras keras)
	UNBRAID_KERAS_PYTHON=$(abspath $(KERAS_PYTHON)) $(BIN)/pytest -m keras

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# line coverage of src/unbraid
coverage: $(READY)
	$(BIN)/pytest -n 2 --cov=unbraid --cov-report=term:skip-covered --cov-report=xml:coverage.xml

# the documentation site in build/site; a warning is an error. Only the first call needs a network.
docs: $(READY) .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.venv/.docs: pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# make bench ARGS="..." passes arguments on
bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

# make fuzz ARGS="--inputs 20000 --seed 1": mutated inputs for every reader
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz $(ARGS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile $(TORCH)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev,report,onnx,hub,keras,sklearn,translation,bench]'
	touch $@
