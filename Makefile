# make setup | demo | ros | test | soak | lint | format | clean.   Needs nothing but Python 3.10 to 3.13 with venv.
# make core | sim | learn | episodes | nodes runs one tier of the tests.
PYTHON ?= python3
VENV ?= .venv
# Installed first and by itself, so that pip may take a CPU build where it finds one. With nothing but
# the public index it takes the CUDA build, some gigabytes: point PIP_EXTRA_INDEX_URL at PyTorch's CPU
# index to avoid that.
TORCH ?= torch==2.13.0
# Only the models of its suite are used. Where labmaze has no wheel (Python 3.13), it comes without it.
DM_CONTROL := dm-control==1.0.50
# Arguments for the demo: make demo ARGS="--out /tmp/demo"
ARGS ?=
# Distribution of the ROS 2 wheels: jazzy or kilted. An environment keeps its own until another is asked for.
ROS ?= $(or $(patsubst $(VENV)/.wm_robot-%,%,$(firstword $(wildcard $(VENV)/.wm_robot-*))),jazzy)

CONSTRAINTS := constraints.txt constraints-ros-$(ROS).txt
$(if $(wildcard $(lastword $(CONSTRAINTS))),,$(error ROS is '$(ROS)'; it must be jazzy or kilted))
BIN := $(VENV)/bin
STAMP := $(VENV)/.wm_robot-$(ROS)
# Of a set-up with other ROS 2 wheels.
OTHERS := $(filter-out $(STAMP),$(wildcard $(VENV)/.wm_robot $(VENV)/.wm_robot-*))
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest --quiet
# Tests that share a fixture of their module stay in one worker.
WORKERS := --dist=loadgroup --numprocesses
# Two targets at once, each on a core, and what each says in one piece. The make of macOS has no such option.
LANES := --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
RUFF := $(BIN)/ruff
SOURCES := wm_robot cli sim ros_ws launch examples benchmarks docs tests
ROS_STAMP := ros_ws/install/.complete
MESSAGES := ros_ws/src/wm_robot_msgs

# On two busy cores more threads are slower, not faster.
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo ros messages test core sim learn episodes nodes soak lint constraints format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "wm_robot needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=python3.12, say"; exit 2; }
	@echo "setting up $(VENV): a minute or two, once"
	@$(PYTHON) -c 'import platform as p, sys; sys.exit((p.system(), p.machine()) == ("Linux", "x86_64"))' && \
	  echo "ROS 2 skipped: its wheels are for Linux on x86-64. Source the system's ROS instead" || true
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# The wheels of two distributions have the same names, and not the same files.
	@$(if $(OTHERS),rm -rf ros_ws/build ros_ws/install && $(BIN)/python -m pip freeze | sed -n 's/^\(ros-[^ =]*\)==.*/\1/p' | \
	  xargs -r $(PIP) uninstall --yes && rm -f $(OTHERS))
	@# Without the variable the ROS wheels start every interpreter a second time, pip's own children too.
	@# The pip of an old Python downloads whole packages to know what they need: four times as slow.
	@export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 PIP_CONSTRAINT="$(CONSTRAINTS)" && \
	  $(PIP) install --upgrade "pip>=25.1" && $(PIP) install "$(TORCH)" && $(PIP) install --editable ".[learn,sim,ros,report,ship,episodes,openssf,dev]" && \
	  $(PIP) install --no-deps "$(DM_CONTROL)"
	@touch $(STAMP)

demo: setup
	@$(BIN)/wm-robot demo $(ARGS)

# The project's own messages, by colcon: a minute or so, once. With a ROS 2 of the system sourced, the whole workspace.
ros: $(ROS_STAMP)

$(ROS_STAMP): $(STAMP) ros_ws/build.py ros_ws/build-requirements.txt constraints-ros-$(ROS).txt $(wildcard $(MESSAGES)/*.* $(MESSAGES)/*/*)
	@echo "building ros_ws: a minute or so, once"
	@$(BIN)/python ros_ws/build.py
	@touch $@

# Where the messages cannot be built for want of a compiler or of ROS 2, that is said, and their tests are skipped.
messages: setup
	@if $(BIN)/python ros_ws/build.py --possible; then $(MAKE) --no-print-directory ros; fi

# Each tier is processes of its own, and the core tier cannot import what the others need. Both cores are busy: first
# with the core tier, then with the learning tier beside all that is short, then with nodes, which mostly wait.
test: setup
	@$(MAKE) --no-print-directory core
	@$(MAKE) --no-print-directory $(LANES) learn messages sim lint episodes
	@$(MAKE) --no-print-directory nodes

core: setup
	$(PYTEST) --tier=core $(WORKERS)=2

learn: setup
	$(PYTEST) --tier=learn $(WORKERS)=2

sim episodes: setup
	$(PYTEST) --tier=$@

# A busy machine loses messages: what fails runs once more by itself, and then it counts. Both runs are in the output.
nodes: messages
	$(PYTEST) --tier=ros -m "not alone" $(WORKERS)=4 || \
	  { test $$? = 1 && $(PYTEST) --tier=ros -m "not alone" --last-failed; }
	$(PYTEST) --tier=ros -m alone || { test $$? = 1 && $(PYTEST) --tier=ros -m alone --last-failed; }

# What takes minutes: other Pythons, the wheel, the browser, long runs. CONTRIBUTING.md lists it.
soak: messages
	$(PYTEST) --soak

lint: setup
	$(RUFF) check --quiet $(SOURCES)
	$(RUFF) format --quiet --check $(SOURCES)
	$(BIN)/mypy --no-error-summary

# Pins for all Pythons at once; needs uv. What is pinned stays, but for what UV_ARGS="--upgrade" brings.
constraints:
	uv pip compile pyproject.toml --universal --python-version 3.10 --all-extras --no-annotate --quiet \
	  --constraint constraints-ros-jazzy.txt --custom-compile-command "make constraints" \
	  --output-file constraints.txt $(UV_ARGS)
	sed -i '/^ros-/d' constraints.txt

format: setup
	$(RUFF) check --quiet --fix $(SOURCES)
	$(RUFF) format --quiet $(SOURCES)

clean:
	rm -rf ros_ws/build ros_ws/install ros_ws/log
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
