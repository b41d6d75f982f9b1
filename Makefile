# Needs only make, bash and git; what else is missing is installed, or named where it cannot be.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo app test test-window test-disk test-rest check-slow test-slow test-qt6 bench responsiveness autosave lint

VENV := .venv
BIN := $(VENV)/bin

# Real tissue and reference values that are too large for this repository. Tests and benchmarks
# that use them look here; set PROTOSEG_DATA to another folder, or to nothing to do without.
PROTOSEG_DATA ?= $(shell cd ../shared 2>/dev/null && pwd)
ifneq ($(strip $(PROTOSEG_DATA)),)
export PROTOSEG_DATA
else
unexport PROTOSEG_DATA
endif

help:
	@echo "make demo        install, turn the labels of the sample data into masks, open napari with them"
	@echo "make app         install with napari, and open the workbench with the sample project"
	@echo "make test        install with all tools; lint, check types and layers, test"
	@echo "make check-slow  the tests that take minutes, and those of the window on PyQt6"
	@echo "make bench       parity, accuracy, speed, responsiveness, autosave (needs PROTOSEG_DATA)"
	@echo "make responsiveness  the window while a network trains"
	@echo "make autosave    the window while what is drawn is recorded"
	@echo "make lint        what make test does before testing"

demo: $(VENV)/installed-app | virtual-screen
	rm -rf protoseg-demo
	$(BIN)/protoseg demo --data sample_data --out protoseg-demo
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
		echo "napari opens with the project; close its window to end."; \
		$(BIN)/python -m napari_protoseg.plugin protoseg-demo/project; \
	else \
		xvfb-run -a -s "-screen 0 1600x1100x24" $(BIN)/python -m napari_protoseg.plugin \
			protoseg-demo/project --screenshot protoseg-demo/workbench.png && \
		echo "There is no display here: protoseg-demo/workbench.png shows the workbench."; \
	fi

app: $(VENV)/installed-app
	$(BIN)/python -m napari_protoseg.plugin

test: lint
	$(MAKE) -j3 test-window test-disk test-rest

# PyQt6 is in the environment too once make check-slow has installed it.
ON_QT5 := QT_API=pyqt5 PYTEST_QT_API=pyqt5

# Three parts side by side, for two cores: tests of what is on the disk wait for it a good deal. No
# threads of arithmetic wait for another.
OF_WINDOW := tests/plugin tests/widgets
OF_DISK := tests/faults tests/fuzz tests/project tests/review

test-window:
	$(ON_QT5) OMP_NUM_THREADS=1 xvfb-run -a $(BIN)/pytest $(OF_WINDOW)

test-disk:
	$(ON_QT5) OMP_NUM_THREADS=1 xvfb-run -a $(BIN)/pytest $(OF_DISK)

test-rest:
	$(ON_QT5) OMP_NUM_THREADS=1 xvfb-run -a $(BIN)/pytest $(patsubst %,--ignore %,$(OF_WINDOW) $(OF_DISK))

check-slow: $(VENV)/installed-dev $(VENV)/installed-qt6
	$(MAKE) -j2 test-slow test-qt6

test-slow:
	$(ON_QT5) OMP_NUM_THREADS=1 xvfb-run -a $(BIN)/pytest -m slow

test-qt6:
	QT_API=pyqt6 PYTEST_QT_API=pyqt6 OMP_NUM_THREADS=1 xvfb-run -a $(BIN)/pytest $(OF_WINDOW)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-base
	@test -d "$$PROTOSEG_DATA" || { echo "Set PROTOSEG_DATA to the folder of the data." >&2; exit 1; }
	$(BIN)/python benchmarks/check_parity.py "$$PROTOSEG_DATA"/parity/*.npz
	$(BIN)/python benchmarks/accuracy.py lung
	$(BIN)/python benchmarks/accuracy.py colon
	$(BIN)/python benchmarks/accuracy.py generated
	$(BIN)/python benchmarks/speed.py
	$(MAKE) responsiveness
	$(MAKE) autosave

responsiveness: $(VENV)/installed-app | virtual-screen
	xvfb-run -a $(BIN)/python benchmarks/responsiveness.py

autosave: $(VENV)/installed-app | virtual-screen
	xvfb-run -a $(BIN)/python benchmarks/autosave.py
	xvfb-run -a $(BIN)/python benchmarks/recording.py

# A file in the environment says that a set of requirements is installed.
EXTRAS_base :=
EXTRAS_app := [pyqt5]
EXTRAS_dev := [pyqt5,dev]
EXTRAS_qt6 := [pyqt6]

$(VENV)/pyvenv.cfg:
	.ci/create-environment $(VENV)

$(VENV)/installed-%: $(VENV)/pyvenv.cfg pyproject.toml
	$(BIN)/pip install --disable-pip-version-check --no-compile --editable '.$(EXTRAS_$*)'
	touch $@

$(VENV)/installed-app: | screen
$(VENV)/installed-dev: | virtual-screen c-compiler

.PHONY: screen virtual-screen c-compiler
screen:
	.ci/screen-libraries

virtual-screen:
	.ci/screen-libraries virtual

c-compiler: | virtual-screen # one use of apt at a time
	.ci/c-compiler
