# make demo: the whole federation on this machine. make test: what decides whether a change lands. make chaos: 200 faults.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test bench bench-quick chaos clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/python -m fedhealth.cli.demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

bench bench-quick: $(VENV)/.installed
	for name in local_training payload round_latency many_hospitals memory simulations; do \
	  $(BIN)/python -m benchmarks.$$name $(if $(filter bench-quick,$@),--quick) || exit 1; \
	done

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.chaos $(if $(FAULTS),--faults $(FAULTS))

clean:
	rm -rf $(VENV)
