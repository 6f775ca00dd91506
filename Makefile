# Two commands do everything on a fresh machine, set-up included and without root:
#   make demo    the main job on an embedded real Redis
#   make test    lint, types and the tests

# The first Python that really runs and is new enough; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/python .ci/uv_as_pip.py
# An environment that is there is kept, whichever Python it is of, unless one was asked for.
KEEP := $(if $(filter file,$(origin PYTHON)),--keep)
define INSTALL
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed: install it, or set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) .ci/install.py --venv $(VENV) $(KEEP)
endef
ARGS ?=

# Until 3.13, Python reads in the locale's encoding where a package in place is, and fails to start if
# a path has other letters than ASCII's. LC_ALL=C leaves it no other encoding; LANG=C does.
ifneq ($(filter C POSIX,$(LC_ALL)),)
export LC_ALL := C.UTF-8
endif

# Most tests wait for servers and clocks, so there may be more of them than processors.
WORKERS ?= 4

.PHONY: help install schemas demo test test-long lint types pytest runtime-tests test-minimal test-newest debian test-wheel package faults soak fuzz mutants bench herd \
	docs docs-reference clean

help:
	@echo "make demo [ARGS=--full or --compare]            the main job, on an embedded real Redis"
	@echo "make test                                      lint, types and the tests"
	@echo "make test-long                                 the tests that take minutes: every shape on real servers"
	@echo "make runtime-tests                             the tests of what runs, without those of pages and packages"
	@echo "make test-minimal                              the tests with the oldest versions that are allowed"
	@echo "make test-newest                               the tests with the newest versions that there are"
	@echo "make debian SUITE=sid TARGET=demo              a target in a clean Debian; needs root and debootstrap"
	@echo "make package                                   the distributions, in dist"
	@echo "make test-wheel                                every test against the installed wheel"
	@echo "make faults                                    every fault of Redis on real servers, as one table"
	@echo "make soak [SECONDS=600]                        a live service while Redis flaps at random"
	@echo "make fuzz [SECONDS=600]                        every input with what nobody sends, for so long"
	@echo "make mutants [COUNT=20 ROOMS=states]           changes that no test notices, of a sample by chance"
	@echo "make bench [ARGS='--only fan-out']             the benchmarks, beside their peers; --page writes the page"
	@echo "make install                                   only the set-up: $(VENV)"
	@echo "make schemas                                   also what the Kubernetes manifest is checked against, 108 MB"
	@echo "make herd [ARGS='--only real']                 fleets that come back, simulated and real; --page writes the page"
	@echo "make docs                                      the documentation as a site, in build/docs"
	@echo "make docs-reference                            write the generated reference pages"
	@echo "make clean                                     remove what the others made"

install:
	$(INSTALL) dev --optional otlp-receiver

# Too large for everybody's machine; .ci/run asks for it.
schemas: install
	$(INSTALL) kubernetes 2>/dev/null || echo "could not install the schemas of Kubernetes; the test that needs them is skipped"

demo:
	$(INSTALL) demo
	@$(BIN)/startup-orchestrator demo $(ARGS)

test: lint types pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy
	$(BIN)/mypy docs/conf.py docs/_sphinx

# The tests that take minutes are marked as long; each kind that they try has tests here, too.
pytest: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not long" $(ARGS)

test-long: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m long $(ARGS)

# The parts that need no tool of development and no server but Redis and what the package brings.
RUNTIME_TESTS = -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not long" \
	$(addprefix --ignore=tests/,benchmarks browser docs packaging typing) $(ARGS)

runtime-tests: install
	$(BIN)/python $(RUNTIME_TESTS)

MINIMAL := build/minimal
# The oldest Python, where there is one.
MINIMAL_PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo $(PYTHON))
test-minimal: install
	@$(UV) venv --quiet --clear --no-project --python "$$($(MINIMAL_PYTHON) -c 'import sys; print(sys.executable)')" $(MINIMAL)
	@$(BIN)/python -m tests.packaging.lowest > $(MINIMAL)/requirements.txt
	@$(UV) pip install --quiet --python $(MINIMAL)/bin/python --requirements $(MINIMAL)/requirements.txt \
		--resolution lowest-direct --only-binary :all:
	@$(MINIMAL)/bin/python -m tests.packaging.lowest --installed
	@# Old packages are warned by a Python that came after them; that is theirs.
	$(MINIMAL)/bin/python $(RUNTIME_TESTS) \
		$$($(MINIMAL)/bin/python -c 'import sys; print("-o filterwarnings=default" * (sys.version_info >= (3, 12)))')

NEWEST := build/newest
test-newest: install
	@$(UV) venv --quiet --clear --no-project --python $(BIN)/python $(NEWEST)
	@$(UV) pip install --quiet --python $(NEWEST)/bin/python --upgrade --editable '.[dev]'
	@$(NEWEST)/bin/python -m tests.packaging.newest
	$(NEWEST)/bin/python $(RUNTIME_TESTS)

# As root: a target in a clean Debian of SUITE, by an ordinary user.
SUITE ?= trixie
TARGET ?= test
debian:
	@$(PYTHON) .ci/debian.py $(SUITE) make $(TARGET) WORKERS=$(WORKERS) ARGS="$(ARGS)"

package: install
	@rm -rf dist
	@$(UV) build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist
	@ls dist/*.whl dist/*.tar.gz

# In a copy from the source distribution without the packages, so that only the wheel has them; and
# without the tests that read the packages' files or need what only a checkout has.
WHEEL := build/wheel
test-wheel: package
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)
	@$(UV) venv --quiet --no-project --python $(BIN)/python $(WHEEL)/venv
	@$(UV) pip install --quiet --python $(WHEEL)/venv/bin/python --constraint constraints.txt "$$(ls dist/*.whl)[dev]"
	@tar -xzf dist/*.tar.gz --strip-components=1 -C $(WHEEL) && rm -r $(WHEEL)/orchestrator $(WHEEL)/states
	cd $(WHEEL) && venv/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		$(addprefix --ignore=tests/,benchmarks docs packaging typing test_architecture.py) \
		--deselect tests/otel/test_deploy.py::test_everything_that_compose_mounts_or_builds_is_there $(ARGS)

faults: install
	@$(BIN)/python -m tests.faults $(ARGS)

SECONDS ?= 600
soak: install
	@$(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

# The same inputs as in the tests, for longer. Where something does not hold, the smallest input that
# shows it is printed: it becomes a test.
fuzz: install
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# Changes by chance, of which the tests notice each or say too little: COUNT for each of ROOMS.
COUNT ?= 20
mutants:
	$(INSTALL) dev mutants
	@$(BIN)/python -m tests.mutants --count $(COUNT) $(ROOMS)

bench:
	$(INSTALL) dev bench --optional otlp-receiver
	@$(BIN)/python -m tests.benchmarks $(ARGS)

# Minutes: the largest fleets have 100,000 instances.
herd:
	$(INSTALL) dev bench --optional otlp-receiver
	@$(BIN)/python -m tests.herd $(ARGS)

docs: install
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --conf-dir docs . build/docs
	@echo "Open build/docs/index.html"

docs-reference: install
	$(BIN)/startup-orchestrator diagram --markdown > docs/reference/stages.md
	$(BIN)/startup-orchestrator settings --markdown > docs/reference/settings.md
	$(BIN)/startup-orchestrator commands --markdown > docs/reference/command-line.md
	$(BIN)/python -m tests.faults --page
	$(BIN)/python -m tests.integrations.servers_matrix

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
