PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# processes that run tests: much of their time is waiting, so more than a small machine has cores
WORKERS ?= 3

.PHONY: demo test matrix bench soak clean

# everything that a fresh machine needs: Python 3.11 or newer and make
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	rm -f prefect_runs_demo.duckdb
	$(BIN)/prefect-runs demo

test: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(WORKERS)

matrix: $(VENV)/ready
	$(BIN)/python benchmarks/matrix.py

bench: $(VENV)/ready
	$(BIN)/python benchmarks/bench.py --write-docs

# MINUTES of load and, to have a failure again, its SEED
soak: $(VENV)/ready
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf $(VENV) build dist *.egg-info
