# Two commands do all the set-up: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: help preflight install install-dev install-test compose-test models ui demo test tests check lint bench bench-serve bench-search quality pictures lock sample clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

preflight: ## what this machine lacks, each with the command that installs it
	@sh installer/preflight.sh >/dev/null

install: preflight ## environment, pinned packages, models, UI
	@"$$(sh installer/preflight.sh)" installer/install.py

install-dev: preflight ## the same, and what the tests need (browser, PostgreSQL)
	@"$$(sh installer/preflight.sh)" installer/install.py --dev
	@sh installer/test-machine.sh

demo: install ## the sample company in the browser; CHECK=1 asks, judges and stops
	@$(BIN)/python -m installer.demo $(if $(CHECK),--check)

test: install-dev ## everything the tests need, then all tests; LONG=1 is every place of a kill, not a sample
	@$(MAKE) --no-print-directory -j 2 lint tests

# In the order they are collected in: what starts last would be the slowest file of one test.
tests:
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder $(if $(LONG),,-m "not long")

check: ## format, lint, types, contracts and the quick tests: before each commit
	@$(MAKE) --no-print-directory lint
	@$(BIN)/pytest -m "not slow and not long and not browser and not models and not postgres"

lint:
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m installer.docs --check

bench: install ## speed on this machine, written to docs/en/bench.md
	@$(BIN)/python -m tests.bench

bench-serve: install ## the engine beside llama-server, written to docs/en/serve.md
	@$(BIN)/python -m tests.bench.serve

bench-search: install ## search among a million chunks, written to docs/en/search.md; takes an hour
	@$(BIN)/python -m tests.bench.search

install-test: ## a bundle on a fresh Debian without a network, to docs/en/install-test.md: BUNDLE=… KEY=…, as root
	@$(BIN)/python -m tests.install --bundle $(BUNDLE) --key $(KEY)

compose-test: ## the same bundle as containers that cannot get out, to docs/en/compose-test.md: BUNDLE=… KEY=…, as root
	@$(BIN)/python -m tests.install.compose --postgres --bundle $(BUNDLE) --key $(KEY)

quality: install ## the golden questions, written to docs/en/quality.md
	@$(BIN)/python -m tests.quality

pictures: install-dev ## the manuals' pictures, of the real product: docs/ja/images
	@$(BIN)/python -m tests.browser.pictures

sample: ## rebuild the sample company's files from their sources
	@$(BIN)/python -m installer.sample.build

lock: ## write the lock files anew from pyproject.toml
	@$(BIN)/python -m installer.lock

clean: ## take away what was built; the data folder stays
	@rm -rf .venv ui/dist ui/node_modules .install.log
