# make train: set up and train | make test: set up and test | make test-all: with the slow tests | make check: style, types, contracts, and the fast tests with their coverage
PYTHON ?= python3
BIN := .venv/bin

# make best: the best model for a data set. ARGS="--config-dir conf data=plant minutes=10"
# make study: every stage on a small set, with an index page | make study-full: the real thing. ARGS="data=aihub data.root=PATH"
# make fuzz, mutation: broken input, mistakes put into the code, for SECONDS in all
# make fuzz-long, kill: a million broken inputs, twenty kill -9 inside each of four stages, for no longer than LIMIT (each stage)
# make mutation MODULES=splits: of one module (README of tests/ has their names); it goes on where the last one stopped
.PHONY: train best test test-all check study study-full fuzz fuzz-long kill mutation
COVERAGE ?= 92
SECONDS ?= 60
LIMIT ?= 1800
train: .venv/ready
	$(BIN)/python train.py

best: .venv/ready
	$(BIN)/python -m conveyorguard best $(ARGS)

study: .venv/ready
	$(BIN)/python experiments/study.py --small $(ARGS)

study-full: .venv/ready
	$(BIN)/python experiments/study.py --full $(ARGS)

test: .venv/ready
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-all: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

fuzz: .venv/ready
	$(BIN)/python -m tests.system.fuzz.reader --seconds $(SECONDS)

fuzz-long: .venv/ready
	$(BIN)/python -m tests.system.fuzz.reader --inputs 1000000 --seconds $(LIMIT)

kill: .venv/ready
	$(BIN)/python -m tests.system.kill --seconds $(LIMIT)

mutation: .venv/ready
	$(BIN)/python -m tests.system.mutation $(MODULES) --seconds $(SECONDS)

check: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE)

# The environment, made anew when what it should hold has changed. Without write access to a cache pip still works.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ConveyorGuard needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; use make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch .venv/ready
