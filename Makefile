# Two commands are enough: `make demo` and `make test`. They need git, make and Python >= 3.11, and set up the rest.
PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
SYNC := sync --quiet --frozen --extra all
export UV_PYTHON_DOWNLOADS ?= never
# uv works in the environment that was made here, whatever else is active or named.
export UV_PROJECT_ENVIRONMENT := $(VENV)
unexport VIRTUAL_ENV

.PHONY: demo test check lua interpreters slow bench deployables chaos hostile rabbitmq clean

demo: $(VENV)/.ready ## The main job: examples/calculator, from its spec to staging and production.
	$(VENV)/bin/tta run examples/calculator/specs/calculator.md --repo examples/calculator --target production --async

test: $(VENV)/.ready ## The tests.
	$(VENV)/bin/python -m pytest -m "not slow" -n 4 --dist loadgroup

interpreters: $(VENV)/.ready ## The quick tests on the others of Python 3.11, 3.12 and 3.13 that are there, each in .venv-VERSION.
	.ci/interpreters

check: $(VENV)/.ready ## Style, types, and the direction of imports.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

lua: $(VENV)/.ready ## The scripts of Redis, each with what it includes. It needs luacheck (Debian: lua-check).
	rm -rf build/lua
	$(VENV)/bin/python -m tta_tasks.lua build/lua tta_tasks workers
	luacheck --quiet build/lua

deployables: $(VENV)/.ready ## The checks of deploy/: schemas, chart, alerts. They need half a gigabyte of tools.
	$(UV) $(SYNC) --inexact --group deploy
	$(VENV)/bin/python -m pytest tests/deployables

slow: $(VENV)/.ready ## The slower tests, which `make test` leaves out.
	$(UV) $(SYNC) --inexact --group bench
	$(VENV)/bin/python -m pytest -m slow -n 2 --dist loadgroup

chaos: $(VENV)/.ready ## Ten minutes of faults under load. `make chaos CHAOS="--seed 7"` repeats one; `--help` shows the rest.
	$(VENV)/bin/python -m tests.chaos $(CHAOS)

hostile: $(VENV)/.ready ## Ten thousand hostile trees, journals, archives, patches and wheels. `make hostile HOSTILE="--seed 7 --examples 500"`; `--help`.
	$(VENV)/bin/python -m tests.hostile $(HOSTILE)

bench: $(VENV)/.ready ## How fast it is, beside its peers: docs/reference/benchmarks.md. `make bench BENCH="--only fanout --rounds 3"`; `--help`.
	$(UV) $(SYNC) --inexact --group bench
	$(VENV)/bin/python -m benchmarks $(BENCH)

rabbitmq: $(VENV)/.ready ## The fleet's tests over RabbitMQ >= 4: make rabbitmq RABBITMQ_URL=amqp://guest:guest@127.0.0.1:5672//
	RABBITMQ_URL=$(RABBITMQ_URL) $(VENV)/bin/python -m pytest tests/fleet/test_runs.py tests/fleet/test_client.py tests/fleet/test_async_client.py tests/fleet/test_documented_names.py

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(UV) || { $(PYTHON) -m venv $(VENV) && $(VENV)/bin/python -m pip --quiet --disable-pip-version-check install 'uv>=0.9'; } || \
		{ rm -rf $(VENV); echo "The environment could not be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(UV) $(SYNC) --python $(VENV)/bin/python
	@touch $@

clean: ## Remove everything that was made here, releases of the demo included.
	-$(VENV)/bin/tta down
	rm -rf $(VENV) .venv-3.* .tta .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
