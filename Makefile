# make run     three controllers, three brokers and a tour; nothing but Python, pip and make needed
#              NO_TOUR=1 only starts them; ARGS="--base-port 0" is passed on
# make test    installs what the tests need, and runs them
# make lint    ruff, mypy, import contracts
# make proto   generate klamm/v1 from proto/klamm/v1
# make sim     fresh simulation seeds for SECONDS (default 600) each: the core, the real driver
# make soak    faults on real controllers in network namespaces for SECONDS (needs root)
# make fuzz    hostile bytes into every decoder, INPUTS of them (default 10000000); TARGET=… for one

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?= 600
INPUTS ?= 10000000
TARGET ?= all

.PHONY: run test lint proto sim soak fuzz format bench clean

run: $(VENV)/.run
	$(BIN)/klamm tour $(if $(NO_TOUR),--no-tour) $(ARGS)

test: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist worksteal -m "not process and not docker" $(PYTEST_ARGS)
	$(BIN)/pytest -m "process or docker" $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --target $(TARGET) --inputs $(INPUTS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I proto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. proto/klamm/v1/*.proto

sim: $(VENV)/.dev
	$(BIN)/python -m tests.sim.quorum.replay --seconds $(SECONDS)
	$(BIN)/python -m tests.sim.driver.replay --seconds $(SECONDS)

soak: $(VENV)/.dev
	$(BIN)/python -m tests.process.soak --seconds $(SECONDS)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.failover
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.commit
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.snapshot

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable .
	$(BIN)/python -m compileall -q klamm controller broker
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --group dev
	touch $@

# Where there is no wheel of atheris, the plain engine does without.
$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/pip install --quiet --only-binary atheris --group fuzz || echo "no atheris here: fuzzing without coverage"
	touch $@

clean:
	rm -rf $(VENV) dist build
