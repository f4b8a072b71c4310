# Two commands do everything on a fresh machine with git, make, python3-venv and Python 3.11-3.13:
#   make run    make the environment and run the main job
#   make test   make the environment and pass the tests

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info < (3,14))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
export UV_NO_PROGRESS := 1
export UV_SYSTEM_CERTS := 1
# uv reads no settings of pip: the registry that pip was told of holds for it too
UV := index=$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}; \
	[ -z "$$index" ] || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; VIRTUAL_ENV=$(VENV) $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help run dev test test-slow lint format bench lock venv clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(STAMP)  ## make the environment and run the main job
	@$(BIN)/datafabriek run

dev: $(STAMP)  ## the Dagster UI and daemon on 127.0.0.1:3000
	@$(BIN)/datafabriek dev

test: $(STAMP)  ## make the environment and pass the tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/pytest -m slow

lint: $(STAMP)  ## ruff, mypy, import-linter, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint dbt_project --disable-progress-bar

format: $(STAMP)  ## put code and SQL in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix dbt_project --disable-progress-bar

bench: $(STAMP) $(VENV)/.bench  ## measure against the peers; prints ratios
	$(BIN)/python -m bench

lock:  ## renew the hashed requirements (without registry addresses)
	@echo uv | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate - -o requirements-boot.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		bench/requirements.in -c requirements.txt -o bench/requirements.txt

venv: $(STAMP)  ## only the environment

$(STAMP): requirements.txt requirements-boot.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "datafabriek needs Python 3.11, 3.12 or 3.13; found: $$(python3 --version 2>&1)." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(not (3,11) <= sys.version_info < (3,14))' 2>/dev/null || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo no Python); datafabriek needs 3.11, 3.12 or 3.13:" \
			"leave PYTHON out, or name one of those" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks the venv module. Debian, Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "making the environment in $(VENV) (once; a minute or so)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-boot.txt
	@$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

$(VENV)/.bench: $(STAMP) bench/requirements.txt
	@$(UV) pip install --quiet --require-hashes -r bench/requirements.txt
	@touch $@

clean:  ## remove the environment and caches (not .datafabriek)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
