# Two commands do everything on a fresh machine, set-up included and without root:
#   make demo    the main job on an embedded real Redis
#   make test    lint, types and every test

# The first Python that really runs and is new enough; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2

.PHONY: help install demo test lint types pytest faults soak docs-reference clean

help:
	@echo "make demo [ARGS='--compare --json out.json']   the main job, on an embedded real Redis"
	@echo "make test                                      lint, types and every test"
	@echo "make faults                                    every fault of Redis on real servers, as one table"
	@echo "make soak [SECONDS=600]                        a live service while Redis flaps at random"
	@echo "make install                                   only the set-up: $(VENV)"
	@echo "make docs-reference                            write the generated reference pages"
	@echo "make clean                                     remove what the others made"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	$(PIP) --editable '.[dev]'
	@for extra in otlp-receiver valkey; do \
		$(PIP) --editable ".[$$extra]" 2>/dev/null || echo "$$extra is not made for this machine; the tests that need it are skipped"; \
	done
	@touch $@

demo: install
	@$(BIN)/startup-orchestrator demo $(ARGS)

test: lint types pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

pytest: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

faults: install
	@$(BIN)/python -m tests.faults $(ARGS)

SECONDS ?= 600
soak: install
	@$(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

docs-reference: install
	$(BIN)/startup-orchestrator diagram --markdown > docs/reference/stages.md
	$(BIN)/startup-orchestrator settings --markdown > docs/reference/settings.md
	$(BIN)/startup-orchestrator commands --markdown > docs/reference/command-line.md
	$(BIN)/python -m tests.faults --page
	$(BIN)/python -m tests.integrations.servers_matrix

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
