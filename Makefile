# The two commands to know: `make demo` and `make test`. Both work on a fresh machine; see README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first that runs and is new enough: a version manager may have shims for versions that it then refuses.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

# Programs of the host that build images, judge results, or serve as peers. Without them the tests that need them skip.
DEMO_PACKAGES := mmdebstrap skopeo umoci
TEST_PACKAGES := $(DEMO_PACKAGES) docker-registry apache2-utils openssl dpkg-dev zstd attr openssh-client openssh-server podman \
	zsh fish busybox-static runc uidmap gcc libc6-dev qemu-user-static rpm dnf libsolv-tools createrepo-c db5.3-util
BENCH_PACKAGES := $(TEST_PACKAGES) buildah

# Tests write whole images, again and again: in memory, where there is enough of it. Some wait, so there is one more at
# once than a small machine has cores.
MEMORY := $(shell free=$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1) && [ "$$free" -gt 12000000 ] && echo /dev/shm)

# Hundreds of tests start a Python of their own: what one has compiled is there for all.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/pytest

# The same examples of properties each time, however busy the machine is; other ones are tried by `make quick` and soak.
ALL := -n 3 --dist loadgroup --no-loadscope-reorder --hypothesis-profile=ci

.PHONY: help demo test quick coverage lint format bench soak clean system-demo system-test system-bench

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

demo: $(VENV)/runtime system-demo ## Build a real Debian image and patch it, or patch IMAGE=ref; nothing is pushed.
	@$(BIN)/python -m demo $(if $(IMAGE),--image $(IMAGE))

test: $(VENV)/test system-test ## Install what the tests need, and run them all.
	$(PYTEST) $(ALL) --durations=25 $(ARGS)

quick: $(VENV)/test ## Run what needs no root, no program of the host and no mirror, in little more than a minute.
	$(PYTEST) -n 4 -m "not system and not soak and not costly" $(ARGS)

coverage: $(VENV)/test system-test ## Run all tests, and show which lines and branches none of them runs; takes half as long again.
	$(PYTEST) $(ALL) --cov --cov-branch --cov-report=term:skip-covered $(ARGS)

lint: $(VENV)/test ## Check style, types and import rules.
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/test ## Rewrite what the formatter and the linter can.
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/test system-bench ## Compare with a peer, in one run: ratios.
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/test system-test ## Run the long variations of all tests, in about an hour; CONTRIBUTING.md says how to get more.
	$(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder -m soak --durations=25 $(ARGS)

clean: ## Remove what was built here.
	rm -rf $(VENV) .cache .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/runtime: requirements/runtime.txt pyproject.toml | $(VENV)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/test: requirements/test.txt $(VENV)/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	touch $@

system-demo:
	@./demo/system-packages $(DEMO_PACKAGES)

system-test:
	@./demo/system-packages $(TEST_PACKAGES)

system-bench:
	@./demo/system-packages $(BENCH_PACKAGES)
