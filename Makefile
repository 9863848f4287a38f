# segem: set up, try, test. `make` alone explains itself.
#
# Everything is installed into .venv beside this file; nothing outside this folder changes, except that `make test` may
# install Chromium and SLURM with apt-get where it has the right to.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip
ARGS   ?=
NAME   ?=
# What `make wheels` packs beside segem's own requirements.
EXTRAS ?= cpu
# Tests use a process for each core; more than eight would need more memory than most machines have.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n > 8 ? 8 : n)))

# Empty files inside the venv that say which install it holds; they go when the venv goes.
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
INPUTS    := pyproject.toml constraints.txt

WAIT := "Installing into $(VENV); the first time takes a few minutes and 2 GB of disk, 7 GB with a CUDA build of torch."

.DEFAULT_GOAL := help
.PHONY: help install dev demo check test slow proof format wheels programs clean

help: ## this text
	@echo "segem finds neural membranes in electron-microscopy image stacks."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12    use this Python (3.11 or newer) when the venv is made"
	@echo "  ARGS='-k plan -x'    options for pytest, segem demo or pip wheel"
	@echo "  EXTRAS=cpu,s3        what make wheels packs with segem; cpu, if not said"
	@echo "  WORKERS=4            how many processes test side by side; one for each core, at most 8, if not said"
	@echo
	@echo "First time here?  make demo   then read README.md."

install: $(RUN_STAMP) ## what segem needs to run, in .venv (again only when something changed)
	@echo "segem is installed: $(BIN)/segem --help"

dev: $(DEV_STAMP) ## the same and the tools for tests and checks

demo: $(RUN_STAMP) ## the main job on generated stacks, from start to report
	$(BIN)/segem demo $(ARGS)

check: $(DEV_STAMP) ## format, lint, types and the rules of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy segem flows tests
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -q tests/test_architecture.py

test: $(DEV_STAMP) programs ## the quick tests, a process for each core
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

slow: $(DEV_STAMP) programs ## the slow tests: kills, full disks, large nets, in small numbers
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

proof: $(DEV_STAMP) programs ## one promise in full numbers: NAME=faults, properties or all; log in build/proof
	@.ci/proof $(NAME)

format: $(DEV_STAMP) ## put the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheels: | $(BIN)/pip ## all that an install without a network needs, in build/wheels
	rm -rf build/wheels build/lib build/bdist.*
	$(PIP) wheel -c constraints.txt --wheel-dir build/wheels $(ARGS) '.[$(EXTRAS)]'

vendor: ## the files of others that the review page uses, anew from their npm packages; needs npm
	@.ci/vendor

programs: ## the browser and the SLURM of the tests, from Debian's packages
	@.ci/programs

clean: ## remove .venv and caches; workspaces with your results stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find segem flows tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing a new venv receives, so its presence means that the venv was finished.
$(BIN)/pip:
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "error: there is no '$(PYTHON)' here." >&2; \
	    echo "  Fix: apt-get install python3 python3-venv, or name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: segem needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	    echo "  Fix: install a newer one and name it: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	    echo "  Fix: apt-get install python3-venv   (as root; for a Python of your own choice: pythonX.Y-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(RUN_STAMP): $(INPUTS) | $(BIN)/pip
	@echo $(WAIT)
	$(PIP) install -c constraints.txt -e '.[cpu]'
	@touch $@

$(DEV_STAMP): $(INPUTS) | $(BIN)/pip
	@echo $(WAIT)
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $(RUN_STAMP) $@
