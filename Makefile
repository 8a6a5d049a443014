# Two commands: `make quickstart` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Constraints carry versions and hashes; an installer refuses a file whose hash differs.
PINS   := -c constraints.txt
UV     := $(BIN)/uv --no-config
WORKSPACE := -e home_run -e sdk -e hub_registry -e endpoint_plugins

.PHONY: quickstart test bench lint lock openapi clean

$(VENV)/installed: constraints.txt requirements/quickstart.in home_run/pyproject.toml sdk/pyproject.toml hub_registry/pyproject.toml endpoint_plugins/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements/installer.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet $(PINS) $(WORKSPACE) -r requirements/quickstart.in
	touch $@

# torch comes first and through pip, which looks where the machine keeps its own builds
# (PIP_FIND_LINKS); what it finds then satisfies every later installation.
$(VENV)/installed-tests: $(VENV)/installed requirements/frameworks.in requirements/test.in requirements/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/torch-cpu.txt \
	  || $(BIN)/python -m pip install --quiet --no-deps -r requirements/torch.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet $(PINS) -r requirements/frameworks.in -r requirements/test.in
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet $(PINS) --no-deps silero-vad
	touch $@

# One client drives the hub and its peers in turn; `make bench BENCH="--quick --systems hub,engine"` does less.
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks $(BENCH)

quickstart: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/installed-tests lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/public_api.py
	$(BIN)/lint-imports

# Versions and hashes of everything, for every platform, without the addresses they came from. What fits stays
# as it is; `make lock LOCK=--upgrade` looks for newer versions of all.
lock: $(VENV)/installed
	$(BIN)/python requirements/lock.py $(LOCK)

openapi: $(VENV)/installed
	$(BIN)/python -m hub_registry openapi > docs/openapi.json
	$(BIN)/python -m hub_registry openapi --gateway > docs/openapi-gateway.json

clean:
	rm -rf .quickstart .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
