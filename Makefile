# make demo: the whole federation on this machine. make test: the checks of every change (two to four minutes). make test-slow: the
# tests that take minutes or the real data. make coverage: what the tests run. make chaos: 200 faults; SERVICE=1: in five
# runs of a service; MASKED=1: with secure aggregation.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests write thousands of small files: into memory, where there is enough (half a gigabyte).
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 500000 {print "/dev/shm"}')
# More flags for pytest, such as --no-skips.
FLAGS ?=

.PHONY: demo test test-slow coverage bench bench-quick chaos clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/python -m fedhealth.cli.demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(call in_memory,$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not uci" $(FLAGS))

test-slow: $(VENV)/.installed-dev
	$(call in_memory,$(BIN)/pytest -n 2 --dist worksteal -m "slow or uci" $(FLAGS))

# All tests but those that start processes. EXAMPLES=1: as many random examples as the tests ask for, five times those of
# `make test`.
coverage: $(VENV)/.installed-dev
	$(BIN)/coverage erase
	$(call in_memory,$(if $(EXAMPLES),FEDHEALTH_ALL_EXAMPLES=1 )$(BIN)/coverage run -m pytest -n 2 --dist worksteal -m "not processes" $(FLAGS))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

in_memory = $(if $(MEMORY),folder=$$(mktemp -d -p $(MEMORY) fedhealth-XXXXXX) && trap 'rm -rf "$$folder"' EXIT INT TERM && $(1) --basetemp="$$folder/tests",$(1))

$(VENV)/.installed: requirements.txt requirements-server.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-export.txt requirements-formats.txt requirements-track.txt requirements-metrics.txt requirements-tables.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-tables.txt
	touch $@

bench bench-quick: $(VENV)/.installed
	for name in local_training payload round_latency newton_rounds many_hospitals secure_aggregation memory large_table simulations; do \
	  $(BIN)/python -m benchmarks.$$name $(if $(filter bench-quick,$@),--quick) || exit 1; \
	done

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos $(if $(FAULTS),--faults $(FAULTS)) $(if $(SERVICE),--service) $(if $(MASKED),--secure-aggregation)

clean:
	rm -rf $(VENV)
