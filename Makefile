# Everything a newcomer needs: `make demo` and `make test`. Both set up their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/edge_compress/api/v1/*.proto)

.PHONY: demo test check fix protos dashboards install clean bench-agent bench-nncf bench-compress bench-zoo bench-profiles \
	bench-techniques bench-fleet bench-downloads bench-metrics bench-rollout bench-updates bench-loop

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/edge-compress demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_protos.py

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: install
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

dashboards: install
	$(BIN)/python deploy/grafana/fleet.py

bench-agent: install
	$(BIN)/python tests/bench/agent.py

# NNCF pins other versions of what we use: it lives in an environment of its own. Where it cannot be installed, the bench says so.
build/bench-nncf/.installed: tests/bench/nncf.txt
	$(PYTHON) -m venv build/bench-nncf
	build/bench-nncf/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench-nncf: build/bench-nncf/.installed

# For example: make bench-compress BENCH="--only resnet8 --quick"
bench-compress: install
	-$(MAKE) bench-nncf
	nice -n 10 $(BIN)/python -m tests.bench.compress $(BENCH)

bench-zoo: install
	-$(MAKE) bench-nncf
	nice -n 10 $(BIN)/python -m tests.bench.compress --zoo --quick $(BENCH)

bench-techniques: install
	nice -n 10 $(BIN)/python -m tests.bench.techniques $(BENCH)

bench-updates: install
	nice -n 10 $(BIN)/python -m tests.bench.updates $(BENCH)

bench-fleet: install
	$(BIN)/python -m tests.bench.fleet $(BENCH)

# Held against nginx, too, where it is installed (Debian: nginx-light).
bench-downloads: install
	$(BIN)/python -m tests.bench.downloads $(BENCH)

bench-metrics: install
	$(BIN)/python -m tests.bench.metrics $(BENCH)

bench-rollout: install
	$(BIN)/python -m tests.bench.rollout $(BENCH)

bench-loop: install
	$(BIN)/python -m tests.bench.loop $(BENCH)

bench-profiles: install
	nice -n 10 $(BIN)/python -m tests.bench.profiles

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache demo-out
