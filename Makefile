# Everything a newcomer needs is `make demo` and `make test`; both set up the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
# Images of containers often set this; without compiled files each process compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# The other threads of numpy's OpenBLAS would wait for work by using a core.
export OPENBLAS_NUM_THREADS := 1

# tests/conftest.py knows the expression of markers of `make test-long`.
# A call, its caller and its vendors keep real time: what computes gets the processor only when they wait. Five
# workers that mostly wait, and two that compute, are done at about the same time.
LONG = $(BIN)/pytest -m "$(MARKERS)" --hypothesis-profile long --loop-watchdog
COMPUTING := $(addprefix tests/,architecture call db dispatch handlers providers sync templates) \
	$(addprefix tests/sandbox/test_,audio.py model.py model_instructions.py model_results.py speech.py) \
	$(addprefix tests/simulate/test_,commands.py examples.py scripts.py) \
	$(addprefix tests/api/test_,clients.py limits_of_routes.py openapi.py race.py) \
	$(addprefix tests/handoffs/test_,bridge_interleavings.py handoff_machine.py interleavings.py)

.PHONY: help demo serve test test-long test-all long-run lint lock bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## place a real call, routed mid-call, without any vendor's key
	@$(BIN)/voicebot demo

serve: $(VENV)/.installed ## run the server with the settings of .env
	@$(BIN)/voicebot serve

test: $(VENV)/.installed-dev ## run the tests, in random order and in parallel
	@$(BIN)/pytest $(PYTEST_ARGS)

test-long: MARKERS = long or hypothesis
test-long: long-run ## run the long tests, and the property tests with more examples, under the watchdog

test-all: MARKERS =
test-all: long-run ## run what `make test` and `make test-long` run, each test once, as in test-long

long-run: $(VENV)/.installed-dev
	@nice -n 10 $(LONG) -n 2 -o timeout=1500 $(COMPUTING) $(PYTEST_ARGS) >$(VENV)/computing.log 2>&1 & \
	computing=$$!; failed=; $(LONG) -n 5 $(COMPUTING:%=--ignore=%) $(PYTEST_ARGS) || failed=1; \
	wait $$computing || failed=1; cat $(VENV)/computing.log; test -z "$$failed"

lint: $(VENV)/.installed-dev ## style, strict types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

bench: $(VENV)/.installed-dev ## measure routes at the carrier (JSON)
	@$(BIN)/python -m bench.route

lock: $(UV) ## pin and hash the requirements anew
	$(UV) pip compile -q --universal --generate-hashes --no-annotate --python-version 3.11 --custom-compile-command 'make lock' --extra sandbox pyproject.toml -o requirements.txt
	$(UV) pip compile -q --universal --generate-hashes --no-annotate --python-version 3.11 --custom-compile-command 'make lock' --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean: ## remove the environment and the local data
	rm -rf $(VENV) .voicebot

$(UV): requirements-uv.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $(UV)

$(VENV)/.installed: $(UV) requirements.txt requirements-build.txt pyproject.toml
	@$(UV) pip install --quiet --require-hashes -r requirements.txt
	@$(UV) pip install --quiet --no-deps --build-constraints requirements-build.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@$(UV) pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@
