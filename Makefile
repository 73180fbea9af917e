# What a person or CI does with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

# The Python to build .venv with; when it is older than 3.11, python3.13, python3.12 and python3.11 are looked for.
PYTHON ?= python3
BIN := .venv/bin
# Processes that share the tests; a module's tests stay together, with the programs that they share. Long modules are
# begun first (the marker `long`): xdist would begin with those of many tests, and leave one process alone at the end.
PROCESSES ?= 2
STAMP := .venv/.installed
# On CI a few tests of real programs may be tried again; each is shown with what it said at first.
RETRIES := $(if $(CI),--max-suite-reruns 8 --rerun-show-tracebacks)
# Else each of the hundreds of programs of mixer's that tests start would compile mixer's modules anew, which takes a
# fifth of its start.
unexport PYTHONDONTWRITEBYTECODE
# Go's tools of scripts/install-servers are found by tests through PATH.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(STAMP): requirements.lock pyproject.toml scripts/install
	@scripts/install '$(PYTHON)'

.PHONY: install
install: $(STAMP) ## make .venv with exactly what requirements.lock names

.PHONY: servers
servers: ## install the servers that tests use and no Python package carries (apt as root, Go)
	@scripts/install-servers

.PHONY: demo
demo: $(STAMP) ## the main job on a real Envoy, on this machine; ONCE=1 ends by itself
	@$(BIN)/mixer demo $(if $(ONCE),--once)

.PHONY: test
test: $(STAMP) servers lint types ## everything CI runs; ARGS="-k name" selects tests
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(RETRIES) $(ARGS)

.PHONY: lint
lint: $(STAMP) ## style, and the arrows between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: types
types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## put the code into the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(STAMP) ## write anew what is generated: pages of docs/, proto/, and Grafana's dashboards
	$(BIN)/python -m mixer_py.telemetry.documentation
	$(BIN)/python -m mixer_py.config.document > docs/configuration.md
	$(BIN)/python -m mixer_py.policy.documentation > docs/rego.md
	$(BIN)/python deploy/grafana/generate.py

.PHONY: conformance
conformance: $(STAMP) servers ## ask the embedded engine OPA's own cases (a minute or two) and write docs/conformance.md
	$(BIN)/python -m tests.conformance.report

.PHONY: bench
bench: $(STAMP) ## measure everything (about 20 minutes); benchmarks/reports/README.md says what met its budget
	$(BIN)/python benchmarks/everything.py $(ARGS)

.PHONY: bench-index
bench-index: $(STAMP) ## write that page and the README's figures anew from the reports that there are
	$(BIN)/python benchmarks/everything.py --index

.PHONY: bench-envoy
bench-envoy: $(STAMP) ## measure what mixer adds to requests through a real Envoy, beside it and inside, at fixed rates (5 minutes)
	$(BIN)/python benchmarks/fixed_rates.py $(ARGS)

.PHONY: bench-main-job
bench-main-job: $(STAMP) ## measure checks, log entries and memory (some minutes)
	$(BIN)/python benchmarks/main_job.py $(ARGS)

.PHONY: bench-authorization
bench-authorization: $(STAMP) ## measure checks cached and evaluated, and as policies grow (some minutes)
	$(BIN)/python benchmarks/authorization.py $(ARGS)

.PHONY: bench-rate-limits
bench-rate-limits: $(STAMP) ## measure requests for quota, and as they and their rules grow (some minutes)
	$(BIN)/python benchmarks/rate_limits.py $(ARGS)

.PHONY: bench-telemetry
bench-telemetry: $(STAMP) ## measure log entries from stream to store, by stage, and as label sets and streams grow
	$(BIN)/python benchmarks/telemetry.py $(ARGS)

.PHONY: bench-workers
bench-workers: $(STAMP) ## measure a request with more and more workers, over 16 connections (some minutes)
	$(BIN)/python benchmarks/workers.py $(ARGS)

.PHONY: bench-transports
bench-transports: $(STAMP) ## measure both transports, each against its own floor (some minutes)
	$(BIN)/python benchmarks/transports.py $(ARGS)

.PHONY: bench-overload
bench-overload: $(STAMP) ## measure what is left of the capacity when two and three times as much arrives (some minutes)
	$(BIN)/python benchmarks/overload.py $(ARGS)

.PHONY: bench-compare
bench-compare: $(STAMP) ## what changed between two runs beyond noise: A=before.json B=after.json
	$(BIN)/python benchmarks/compare.py $(A) $(B)

.PHONY: soak
soak: $(STAMP) ## a steady load for eleven minutes: flat memory, every request in every book; writes docs/soak.md
	$(BIN)/python benchmarks/soak.py $(ARGS)

.PHONY: fuzz
fuzz: $(STAMP) ## try everything that comes from outside, target by target, for SECONDS (600); writes docs/fuzzing-report.md
	$(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),600) $(ARGS)

.PHONY: faults
faults: $(STAMP) servers ## inject every fault into real parts (more than half an hour) and write docs/faults.md; some: ARGS="--only NAME --merge"
	$(BIN)/python -m tests.faults.report $(ARGS)

.PHONY: build
build: $(STAMP) ## the wheel, in dist/
	$(BIN)/python -m build --wheel --no-isolation

.PHONY: audit
audit: $(STAMP) ## compare what is installed with requirements.lock, file by file; asks nobody
	@$(BIN)/python scripts/supply_chain.py audit

.PHONY: sbom
sbom: $(STAMP) ## a bill of materials (CycloneDX) of requirements.lock, in dist/
	@mkdir -p dist
	@$(BIN)/python scripts/supply_chain.py sbom > dist/mixer-py.cdx.json && echo dist/mixer-py.cdx.json

.PHONY: lock
lock: ## pin the dependencies of pyproject.toml anew, keeping what still fits
	@scripts/lock

.PHONY: clean
clean: ## remove what was built here; .venv and .tools too
	rm -rf .venv .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
