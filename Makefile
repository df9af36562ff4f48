# Everything runs in .venv, made on first use; no root rights are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run side by side in this many processes.
JOBS ?= 2
ROOMS := tasuki.sdk tasuki.converter tasuki.aggregator tasuki.firmware_bridge tasuki.benchmarks

.PHONY: demo test test-mosquitto test-boards board-aarch64 board-cortex-m lint lint-python lint-c check-all docs clean
.DEFAULT_GOAL := demo

# The demo needs fewer packages than the tests, so each set has its own stamp.
$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Tasuki and the demo's packages into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	@echo "Installing the test tools into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/oracle.stamp: $(VENV)/dev.stamp
	@echo "Installing the independent implementations for the slow tests into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[oracle]'
	touch $@

demo: $(VENV)/demo.stamp  ## teacher to student to fleet and back; prints the path of report.html
	$(BIN)/tasuki demo

test: $(VENV)/dev.stamp  ## the tests that need nothing but Python and a C compiler for this machine
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not mosquitto and not boards"

test-mosquitto: $(VENV)/dev.stamp  ## the tests against Debian's Mosquitto (apt-get install mosquitto)
	$(BIN)/python -m pytest -m "mosquitto and not slow"

test-boards: board-cortex-m $(VENV)/dev.stamp  ## the tests on emulated Cortex-M boards; installs compiler and emulator as root
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "boards and not slow"

board-cortex-m:  ## the Arm compiler, the emulator and the C linters
	tests/board/cortex_m.sh

lint: lint-python lint-c  ## everything that must be clean

# Type checkers do not follow editable installs: give them the root under its import name.
lint-python: $(VENV)/dev.stamp  ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/tasuki
	MYPYPATH=$(VENV)/typing $(BIN)/mypy $(addprefix -p ,$(ROOMS))
	$(BIN)/lint-imports

lint-c: board-cortex-m $(VENV)/dev.stamp  ## all C, with gcc and clang, for this machine and for Arm, at no warning
	$(BIN)/python tests/firmware/compile_all.py

board-aarch64: $(VENV)/board-aarch64/packages  ## an Arm board under qemu-user, for its slow test; installs qemu as root

$(VENV)/board-aarch64/packages: tests/board/aarch64.sh setup.cfg | $(VENV)/dev.stamp
	tests/board/aarch64.sh $(VENV)/board-aarch64 $(BIN)/python
	touch $@

check-all: lint $(VENV)/oracle.stamp board-aarch64  ## lint and every test: the slow ones, Mosquitto's, the boards'
	$(BIN)/python -m pytest --hypothesis-profile=explore

docs: $(VENV)/dev.stamp  ## the reference, from the docstrings
	$(BIN)/pdoc --output-directory build/docs $(ROOMS)

clean:
	rm -rf build dist *.egg-info
