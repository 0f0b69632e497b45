# Trimtab. `make` alone lists the targets. Recipes are plain sh; everything runs in .venv, which `make setup` fills.

PYTHON ?= python3#      the interpreter that makes .venv; 3.11 or newer
TORCH_FLAGS ?=#         where torch comes from, as pip options; see docs/install.md
OUT ?=#                 make train: the run's folder; empty: Models, or Models/runs/<time> where Models holds a run
TRAIN_FLAGS ?=#         make train: further options of train_dqn.py
EVALUATE_FLAGS ?=#      make train: further options of the evaluation in the twin
LIVE_FLAGS ?= --episodes 3 --policies dqn,sed-online,least-outstanding
BENCH_FLAGS ?=#         make bench: such as --seconds 0.5 --rounds 1
FAULTS_FLAGS ?=#        make faults: such as --only kill,restart
SCOREBOARD_FLAGS ?=#    make scoreboard: further options of evaluate_dqn.py, such as --episodes 50 --jobs 8
OFFLINE ?=#             make up: 1 where no container registry is reachable; images come from Debian packages, Grafana is left out
VOLUMES ?=#             make down: 1 removes what Prometheus and Grafana have stored as well

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --quiet
DEMO := Models/demo
BOARD := Models/scoreboard
COMPOSE := docker compose $(if $(OFFLINE),--file docker-compose.yml --file .ci/offline/compose.yml)

.DEFAULT_GOAL := help
.PHONY: help setup train test demo scoreboard bench faults up down logs clean

help:
	@echo "make setup   everything into $(VENV): dependencies, development tools, compiled kernels"
	@echo "make train   train, evaluate, draw; into Models/, or Models/runs/<time> where Models/ holds a run"
	@echo "make test    ruff, mypy --strict, pytest"
	@echo "make demo    the reference model against the classics in the twin, one picture, under a minute"
	@echo "make scoreboard  every policy on the whole suite in the twin: the headroom map as CSV, Markdown and figure"
	@echo "make bench   speed of the twin, the HTTP environment and the learner"
	@echo "make faults  break servers, models and clients of a running gateway, about half an hour; a table of what held"
	@echo "make up      the testbed under Docker Compose: servers, Prometheus, Grafana; OFFLINE=1 without a registry"
	@echo "make down    end it; VOLUMES=1 removes the stored metrics as well"
	@echo "make logs    follow what its containers write"
	@echo "make clean   remove $(VENV) and caches; runs in Models/ stay"
	@echo "Variables: PYTHON=$(PYTHON) TORCH_FLAGS= OUT= TRAIN_FLAGS= EVALUATE_FLAGS= LIVE_FLAGS= BENCH_FLAGS= FAULTS_FLAGS= SCOREBOARD_FLAGS= OFFLINE= VOLUMES="

# Each stamp is written last, so an interrupted installation is done again. torch goes first: without a pin of its own it would
# be chosen by what others ask for.
$(VENV)/runtime.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_FLAGS) "$$(grep '^torch==' requirements.txt)"
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp pyproject.toml
	$(PIP) --editable '.[dev]'
	@touch $@

# Compiled kernels are cached beside their modules; tiny runs in the twin compile those that training and evaluation need. One fleet and
# two: arrays of one fleet have a memory layout of their own, hence compiled code of their own, which live runs use.
# They are compiled anew when any of their files changes: numba itself looks at a kernel's own file only, not at those it uses.
KERNELS := $(wildcard agent/trimtab/core/*.py agent/trimtab/fleets/twin_*.py agent/trimtab/policies/*.py agent/trimtab/dqn/inference.py)
$(VENV)/kernels.stamp: $(VENV)/runtime.stamp $(KERNELS)
	@echo "compiling kernels (once)"
	@find agent -name '*.nbi' -o -name '*.nbc' | xargs rm -f
	@for fleets in 1 2; do \
	  $(PY) agent/train_dqn.py --backend twin --episodes $$fleets --out $(VENV)/warm --overwrite && \
	  $(PY) agent/evaluate_dqn.py --episodes $$fleets --out $(VENV)/warm --overwrite || exit 1; \
	done >$(VENV)/warm.log 2>&1 || { cat $(VENV)/warm.log >&2; exit 1; }
	@touch $@

setup: $(VENV)/dev.stamp $(VENV)/kernels.stamp

# A run is never replaced: where Models/ holds one, this one gets a folder of its own.
train: $(VENV)/kernels.stamp
	@set -e; out="$(OUT)"; \
	if [ -z "$$out" ]; then \
	  out=Models; \
	  for file in checkpoints/resume.pth checkpoints/dqn_final.pth metrics/training_metrics.csv; do \
	    if [ -e "Models/$$file" ]; then out="Models/runs/$$(date +%Y-%m-%d_%H-%M-%S)"; fi; \
	  done; \
	fi; \
	$(PY) agent/train_dqn.py --out "$$out" $(TRAIN_FLAGS); \
	twin="$$out/calibrated.toml"; [ -e "$$twin" ] || twin=compose-default; \
	$(PY) agent/evaluate_dqn.py --out "$$out" --overwrite --scenario "$$twin" $(EVALUATE_FLAGS); \
	$(PY) agent/evaluate_dqn.py --out "$$out" --overwrite --backend http --csv "$$out/metrics/evaluation_live.csv" $(LIVE_FLAGS); \
	$(PY) agent/visualize.py --csv "$$out/metrics/training_metrics.csv" "$$out/metrics/evaluation.csv" \
	  "$$out/metrics/evaluation_live.csv" --out "$$out/metrics/plots"

# Files of tests are shared out to two processes, in their order: the long ones are not among the last. The Compose stack takes fixed
# ports and the whole machine, so its tests run after all others, alone.
test: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -rs --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore tests/docker
	$(PY) -m pytest -rs tests/docker

demo: $(VENV)/kernels.stamp
	@$(PY) agent/evaluate_dqn.py --model Models/reference.pth --episodes 10 --csv $(DEMO)/evaluation.csv --overwrite \
	  --policies dqn,sed-online,peak-ewma,least-outstanding,p2c,round-robin
	@$(PY) agent/visualize.py --csv $(DEMO)/evaluation.csv --out $(DEMO) >/dev/null
	@ls $(DEMO)/evaluation_latency_*.png

# The reference model, not one of your own, unless SCOREBOARD_FLAGS names another; earlier results are replaced, they can be made again.
scoreboard: $(VENV)/kernels.stamp
	@$(PY) agent/evaluate_dqn.py --suite twin --episodes 20 --model Models/reference.pth --csv $(BOARD)/evaluation.csv --overwrite $(SCOREBOARD_FLAGS)
	@$(PY) agent/visualize.py --scoreboard $(BOARD)/evaluation.csv
	@cat $(BOARD)/scoreboard.md

bench: $(VENV)/kernels.stamp
	@for program in twin live learner; do \
	  PYTHONPATH=agent $(PY) tests/benchmarks/$$program.py $(BENCH_FLAGS) || exit 1; \
	done

faults: setup
	$(PY) tests/faults/campaign.py $(FAULTS_FLAGS)

# One line in place of what a missing plugin or a stopped engine would print.
define need_compose
@command -v docker >/dev/null || { echo "error: docker is missing; install Docker, on Debian: .ci/engine.sh" >&2; exit 2; }
@docker compose version >/dev/null 2>&1 || { echo "error: docker compose is missing; install the Compose plugin, on Debian: .ci/engine.sh" >&2; exit 2; }
@docker info >/dev/null 2>&1 || { echo "error: no Docker engine answers; start it, on Debian: .ci/engine.sh" >&2; exit 2; }
endef

up:
	$(need_compose)
	$(if $(OFFLINE),@.ci/offline/base-image.sh)
	$(COMPOSE) up -d --build --wait || { echo "error: the testbed did not come up, see above$(if $(OFFLINE),,; without a container registry: make up OFFLINE=1)" >&2; exit 1; }
	@echo "servers     http://localhost:8081 ... 8084"
	@echo "Prometheus  http://localhost:9090"
	@echo "Grafana     $(if $(OFFLINE),left out: it comes from a registry only,http://localhost:3000   login admin / admin or GRAFANA_ADMIN_PASSWORD)"

# Every profile, so that no container of an optional one stays behind.
down:
	$(need_compose)
	$(COMPOSE) --profile '*' down --remove-orphans $(if $(VOLUMES),--volumes)

logs:
	$(need_compose)
	$(COMPOSE) logs --follow --tail 100

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis agent/trimtab.egg-info
	find agent servers tests -name __pycache__ -type d -prune -exec rm -rf {} +
