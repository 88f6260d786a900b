# make install | demo | up | test | bench | faults: needs Python 3.11 or newer and make, nothing else.
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE :=  # else every process of the tests, and there are hundreds, compiles all it imports

.PHONY: install demo up test lint bench faults lock clean
.DEFAULT_GOAL := help

help:            ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: .venv/runtime  ## make the environment only
demo: .venv/runtime     ## a bundled talk through every asset, and its moments
	@$(BIN)/videomoments demo
up: .venv/runtime       ## start the platform and stay; Ctrl-C stops it
	@$(BIN)/videomoments up
test: .venv/dev         ## style, types, layers and the test suite
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
bench: .venv/dev        ## measured ratios against stated baselines
	$(BIN)/python -m benchmarks
faults: .venv/dev       ## the real stack, each fault at several moments, and what became of the videos
	nice $(BIN)/python -m faults --write

.venv/runtime: requirements/runtime.lock pyproject.toml
	@scripts/install.sh "$(PYTHON)" runtime
.venv/dev: requirements/dev.lock pyproject.toml scripts/sshd.sh
	@scripts/install.sh "$(PYTHON)" dev

lock:            ## resolve the dependencies anew (needs the network)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --group build pyproject.toml -o requirements/runtime.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --group build --group dev -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock
clean:
	rm -rf .venv .videomoments
