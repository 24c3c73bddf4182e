PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# processes that run tests: much of their time is waiting, so more than a small machine has cores. (Not `WORKERS`, which
# make would hand on to dlt as a setting of its own.)
TEST_PROCESSES ?= 4

.PHONY: demo test browser matrix destinations spark clickhouse compatibility deployment schedulers bench bench-models docs soak \
	release clean

# everything that a fresh machine needs: Python 3.11 or newer and make
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	rm -f prefect_runs_demo.duckdb
	$(BIN)/prefect-runs demo

# the report's tests want a Chromium; where there is none and it cannot be installed, they say so and are skipped
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >/dev/null

test: $(VENV)/ready browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(TEST_PROCESSES)

matrix: $(VENV)/ready
	$(BIN)/python benchmarks/matrix.py

destinations: $(VENV)/ready
	$(BIN)/python benchmarks/destinations.py
	$(BIN)/python benchmarks/spark.py

# Spark, where there is Java, reads lakes and gives the same latest rows as DuckDB's copy
spark: $(VENV)/ready
	$(BIN)/python benchmarks/spark.py

# the models in ClickHouse's SQL, in a ClickHouse that runs in a process
clickhouse: $(VENV)/ready
	$(BIN)/python benchmarks/clickhouse.py

# the wheel on each Python that is promised, with the lowest and the newest dependencies
compatibility: $(VENV)/ready
	$(BIN)/python benchmarks/compatibility.py

bench: $(VENV)/ready
	$(BIN)/python benchmarks/bench.py --write-docs

bench-models: $(VENV)/ready
	$(BIN)/python benchmarks/models_bench.py --write-docs

# the sync as a Prefect deployment, once a minute on the server that it syncs
deployment: $(VENV)/ready
	$(BIN)/python benchmarks/deployment.py --minutes $(or $(MINUTES),10)

# what docs/schedulers gives for Airflow and Dagster, each in an environment of its own
schedulers: $(VENV)/ready
	$(BIN)/python benchmarks/schedulers.py

# the pages of docs/ and the dbt package that are made from the code
docs: $(VENV)/ready
	$(BIN)/python docs/generate.py --questions
	$(BIN)/prefect-runs dbt --write dbt

# MINUTES of load and, to have a failure again, its SEED
soak: $(VENV)/ready
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED))

# checks that version, changelog, lock file and docs agree, builds the wheel and the sdist, and says what comes next
release: $(VENV)/ready
	$(BIN)/python release/checks.py

clean:
	rm -rf $(VENV) build dist *.egg-info
