# make demo   simulated beamline to tomogram          make test   all tests
# make lint   style, types, layers                    make bench  speed, as one table
# make pictures   those of the README
# Each sets up .venv by itself.  DEMO_ARGS, TEST_ARGS and BENCH_ARGS are passed on.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench pictures peers clean

demo: $(VENV)/installed
	$(BIN)/streamptycho demo $(DEMO_ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# Those of the README: the page needs Chromium, the star its measured frames. PICTURES=page makes only one.
pictures: $(VENV)/installed-dev
	$(BIN)/python docs/make_pictures.py $(PICTURES)

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/installed

# Competitors of some gigabytes or under the GPL, in an environment of their own, for the slow rows of the benchmarks.
peers:
	test -x .venv-ptychi/bin/python || $(PYTHON) -m venv .venv-ptychi
	.venv-ptychi/bin/python -m pip install --quiet --disable-pip-version-check "ptychi==2.2.0" "astra-toolbox>=2.3"

clean:
	rm -rf $(VENV) build *.egg-info
