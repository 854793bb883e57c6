# Set-up and the jobs a newcomer wants. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
ARGS ?=

.PHONY: demo test check docs setup clean

# The main job: distil, measure and price a real model family; ends with $(OUT)/report.html.
demo: setup
	$(BIN)/flashstill demo --out $(OUT) $(ARGS)

# Everything that CI checks.
test: setup
	scripts/check
	scripts/test

check: setup
	scripts/check

# The documentation site, in site/; links are checked and a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python scripts/examples
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(VENV)/.done locks/docs.txt
	$(BIN)/python scripts/install docs
	touch $@

setup: $(VENV)/.done

# Every file that is installed has its hash in locks/ (scripts/lock makes them); nothing else is fetched.
$(VENV)/.done: pyproject.toml scripts/install locks/build.txt locks/all.txt locks/cuda.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/install all
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	touch $@

clean:
	rm -rf $(VENV) build site
