# `make demo` and `make test` set up what they need; nothing else has to be done on a fresh machine.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE_READY := node_modules/.ready
STORES := .stores
ENVIRONMENTS := notebooks/benchmark/environments.txt
ENVIRONMENTS_READY := $(VENV)/.environments-ready
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest # else every process that a test starts compiles anew
DEMO := runs/demo-$(shell date +%H%M%S)
ENGINES ?= ducklake spark # those of `make engines`: the names of tests/engines/*.txt
WITH ?= # further: what `make test` leaves out, too
EVERY ?= 1 # one in so many cases of each hostile or slow table
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)') # many a test waits for another process

.PHONY: help setup demo tools stores test slow hostile notebooks lint lint-js check bench gpu gpu-wheels torture wheel-check pictures benchmark benchmark-runs benchmark-results benchmark-tables clean bench-fleet engines

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing everything into $(VENV)/; this takes some minutes the first time.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(ENVIRONMENTS_READY): $(ENVIRONMENTS) $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement $(ENVIRONMENTS)
	touch $@

$(NODE_READY): package.json $(READY)
	$(BIN)/npm install --silent --no-package-lock --no-audit --no-fund --ignore-scripts
	touch $@

setup: $(READY) ## virtual environment with everything for use and development

demo: setup ## train CartPole twice, soundly and with a typo in the learning rate, which is caught; half a minute
	@printf '\n%s\n\n' 'A run that learns:'
	$(BIN)/esper-rec train --out $(DEMO) --run-id sound
	$(BIN)/esper-analyze tail $(DEMO)/sound --once
	@printf '\n%s\n\n' 'The same with a learning rate of 4e-8 instead of 4e-4, stopped as soon as the verdict is critical:'
	$(BIN)/esper-rec train --out $(DEMO) --run-id typo --learning-rate 4e-8 --stop-on critical; test $$? -eq 1
	$(BIN)/esper-analyze check $(DEMO)/typo; test $$? -eq 1
	@printf '\n%s\n\n' 'Where the second run left the first:'
	$(BIN)/esper-analyze explain $(DEMO)/sound $(DEMO)/typo

tools: $(NODE_READY) ## what the tests need beside Python: Chromium, tmux, and what checks the scripts of the pages
	bash tests/tools.sh

stores: setup ## object stores for the tests, each in an environment of its own: moto, s3rver and azurite
	@PYTHON=$(abspath $(BIN)/python) NPM=$(abspath $(BIN)/npm) bash tests/object_store/install.sh $(STORES)

test: setup tools stores $(if $(WITH),$(ENVIRONMENTS_READY)) ## the suite, within about six minutes on two idle cores (TMPDIR=/var/tmp: on a disk, not in memory; WITH=further: as before a change lands, slow, hostile and notebooks in the same run)
	$(PYTEST) -m "not torture and not engines$(if $(WITH),, and not slow and not notebooks and not hostile)" -n $(WORKERS) --dist worksteal --every $(EVERY)

slow: setup tools stores ## the tests that take many seconds each, which `make test` leaves out: stores in trouble, clusters, trainings; five minutes (EVERY=3: of each table a third)
	$(PYTEST) -m "slow and not torture and not engines and not notebooks and not hostile" -n $(WORKERS) --dist worksteal --every $(EVERY)

.engines/%/.ready: tests/engines/%.txt
	$(PYTHON) -m venv .engines/$*
	@echo 'Installing $* into .engines/$*/; Spark alone is half a gigabyte.'
	.engines/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement $<
	touch $@

engines: setup $(patsubst %,.engines/%/.ready,$(ENGINES)) ## the SQL of analyzer/SQL.md on engines in environments of their own; some minutes, Spark needs Java (ENGINES=ducklake: half a minute)
	$(if $(filter spark,$(ENGINES)),bash tests/tools.sh java)
	$(PYTEST) -m engines $(patsubst %,tests/engines/test_%.py,$(ENGINES))

hostile: setup stores ## every command through the tables of damages, failures and harmful folders; four minutes (EVERY=3: a third)
	$(PYTEST) -m "hostile and not torture" -n $(WORKERS) --dist worksteal --every $(EVERY)

notebooks: setup $(ENVIRONMENTS_READY) ## run the notebooks, the blocks of the documents, and the tests of the benchmark, which judge one in six of its runs anew; about three minutes
	$(PYTEST) -m notebooks -n $(WORKERS) --dist worksteal

lint: setup lint-js ## ruff, mypy --strict, the import contract, and lint-js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-js: $(NODE_READY) ## tsc --strict and eslint over the scripts of the HTML pages
	$(BIN)/node node_modules/typescript/bin/tsc --project .
	$(BIN)/node node_modules/eslint/bin/eslint.js --max-warnings 0 analyzer/esper_analyzer/reporting/web

check: lint test ## what must be green before a commit

bench: setup stores ## cost of record() and minibatch(), of reading, of live judgement, of tail, of imports, of starting and of uploading, beside peers
	$(BIN)/python tests/bench/record_cost.py
	$(BIN)/python tests/bench/minibatch_cost.py
	$(BIN)/python tests/bench/read_cost.py
	$(BIN)/python tests/bench/live_cost.py
	$(BIN)/python tests/bench/tail_cost.py
	$(BIN)/python tests/bench/import_cost.py
	$(BIN)/python tests/bench/start_cost.py
	$(BIN)/python tests/bench/kept_cost.py
	$(BIN)/python tests/bench/growth_cost.py
	PYTHONPATH=. $(BIN)/python tests/bench/upload_cost.py
	PYTHONPATH=. $(BIN)/python tests/bench/fleet_cost.py 100

bench-fleet: setup ## what judging 100, 1,000 and 10,000 runs costs, by local processes and on a Ray cluster, some of them killed; about an hour
	PYTHONPATH=. $(BIN)/python tests/bench/fleet_cost.py --ray 100 1000 10000

gpu: setup ## what only a GPU can answer, as one table; without one the same steps, short, on the CPU
	PYTHON=$(abspath $(BIN)/python) bash tests/gpu/run.sh gpu.md

gpu-wheels: ## fetch what run.sh needs on a machine without a registry into .whl/
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest .whl --requirement tests/gpu/wheels.txt

torture: setup stores ## the long runs: some hours, of which files that are changed by chance take 25 minutes; ends in a table of what was broken and what held
	$(PYTEST) -m torture --timeout 3600

wheel-check: ## build the wheel, install it outside the checkout, run the commands
	bash tests/wheel_check.sh $(PYTHON)

pictures: setup ## make the pictures of the README again, from a real run
	$(BIN)/python analyzer/pictures/make.py

benchmark: setup ## judge the runs of the benchmark that are there, and the public ones; about a minute
	$(BIN)/python notebooks/benchmark/judge.py notebooks/benchmark/samples

benchmark-runs: setup $(ENVIRONMENTS_READY) ## sample the runs of the benchmark that are not there yet; some three hours of one core in all
	$(BIN)/python notebooks/benchmark/sample.py --out notebooks/benchmark/samples

benchmark-results: setup $(ENVIRONMENTS_READY) ## judge the benchmark anew for notebooks/benchmark/results.json; some ten minutes (ALSO="--rivals": half an hour more)
	$(BIN)/python notebooks/benchmark/results.py notebooks/benchmark/samples $(ALSO)

benchmark-tables: setup ## write the tables of the READMEs from notebooks/benchmark/results.json
	$(BIN)/python notebooks/benchmark/documents.py

clean: ## remove what the targets above made, except recorded runs
	rm -rf $(VENV) $(STORES) .engines node_modules dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
