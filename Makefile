# make demo   convert the embedded checkpoint, generate, compare with its dense form
# make test   everything else: the whole test suite
# make lint   ruff, clang-format, mypy
# make bench  benchmarks against limits and peers (long)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DATA := $(abspath ../shared/data)
ifneq ($(wildcard $(DATA)),)
export BITNET_TEST_DATA ?= $(DATA)
endif

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	touch $@

# The runtime alone: no torch.
SOURCES := CMakeLists.txt pyproject.toml constraints.txt $(shell find csrc -type f)
$(VENV)/installed: $(VENV)/created $(SOURCES)
	$(PIP) --editable .
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) --editable ".[test]"
	touch $@

$(VENV)/linted: $(VENV)/created
	$(PIP) ruff mypy clang-format
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

test: $(VENV)/tested
	$(BIN)/pytest

lint: $(VENV)/tested $(VENV)/linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.h')
	$(BIN)/mypy

bench: $(VENV)/tested
	$(PIP) --editable ".[bench]"
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build dist demo-output
