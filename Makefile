# The doors: `make replay` and `make test` set everything up themselves; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/replay
TOOLS := .tools
PIP_AUDIT := 2.10.1
CYCLONEDX := 7.5.0
FUZZ_EXAMPLES ?= 20000

.PHONY: help setup replay test test-slow test-all deploy-test docker-test attack-report fuzz sbom audit clean

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

attack-report: $(STAMP) ## what attacks on a study gain, with protection and without
	@"$(BIN)/fedmidline-sim" attack --out runs/attack $(ATTACK_OPTIONS)

fuzz: $(STAMP)   ## 20,000 malformed messages and thousands of damaged files
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) "$(BIN)/python" -m pytest tests/unit/test_fuzz.py tests/unit/test_fuzz_review.py -n 2

$(TOOLS)/.installed:
	@"$(PYTHON)" -m venv "$(TOOLS)" && "$(TOOLS)/bin/pip" install -q pip-audit==$(PIP_AUDIT) cyclonedx-bom==$(CYCLONEDX)
	@touch "$@"

sbom: $(STAMP) $(TOOLS)/.installed ## runs/sbom.json: every installed package, CycloneDX
	@mkdir -p runs && "$(TOOLS)/bin/cyclonedx-py" environment "$(BIN)/python" --of JSON -o runs/sbom.json
	@echo "runs/sbom.json written"

audit: $(STAMP) $(TOOLS)/.installed ## known vulnerabilities of every installed package; needs the network
	@sh docker/audit.sh "$(TOOLS)/bin/pip-audit" "$(BIN)/python" $(AUDIT_OPTIONS)

clean:           ## remove the environment and all runs
	rm -rf "$(VENV)" runs
