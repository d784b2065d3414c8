# The doors: `make replay` and `make test` set everything up themselves; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/replay

.PHONY: help setup replay test test-slow test-all deploy-test docker-test clean

help:            ## these lines
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: $(STAMP)  ## virtual environment with everything pinned

$(STAMP): requirements.txt pyproject.toml docker/install.sh
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh docker/install.sh "$(VENV)"
	@touch "$(STAMP)"

replay: $(STAMP) ## the single-centre study, federated over three hospitals, with its report
	@"$(BIN)/fedmidline-sim" replay --out "$(OUT)" $(REPLAY_OPTIONS)

test: $(STAMP)   ## lint, types, import laws and the fast tests
	@"$(BIN)/ruff" check . && "$(BIN)/ruff" format --check -q .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports"
	@"$(BIN)/python" -m pytest -m "not slow" -n 2

test-slow: $(STAMP) ## the slow tests: Ray, SuperLink, real images, the review page in a browser
	@"$(BIN)/python" -m pytest -m slow -n 2 --ignore tests/e2e/test_deployment.py

test-all: test test-slow ## both

deploy-test: $(STAMP) ## a server and three sites as processes over TLS: killed, restarted, attacked
	@"$(BIN)/python" -m pytest tests/e2e/test_deployment.py -m slow -n 0 --durations=5

docker-test: $(STAMP) ## images built without a network; a study in containers, attacked and broken (Docker, or root)
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh docker/wheelhouse.sh
	@"$(BIN)/python" -m tests.docker.attack $(DOCKER_TEST_OPTIONS)

clean:           ## remove the environment and all runs
	rm -rf "$(VENV)" runs
