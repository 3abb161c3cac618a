# One command a job; each makes what it needs. `make` alone lists them.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDEXPANSION:

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.installed

MODELS  := good broken bad best
SCORES  := $(MODELS:%=model_zoo/%_influences/influences.safetensors)
PAPER   := good broken bad
SEEDS   := bad_43 bad_44
OF_SEEDS := $(SEEDS:%=model_zoo/%_influences/influences.safetensors)
PREDICTING := $(PAPER:%=model_zoo/%_gauss-newton_influences/influences.safetensors)
GAUSS_NEWTON := $(PREDICTING) $(SEEDS:%=model_zoo/%_gauss-newton_influences/influences.safetensors)
SOURCES := $(shell find pinnfluence -name '*.py' -o -name '*.npz')
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/device_check.py benchmarks/explorer_page.py,$(sort $(wildcard benchmarks/*.py)))

DIAGNOSES := $(MODELS:%=model_zoo/%_diagnosis/report.json)

DEVICE ?= cuda

WEB := pinnfluence/explorer/web

.PHONY: help setup demo recipes diagnose test test-slow browser lint explorer-bundle explorer-check docs validate bench sweep device-check zoo clean FORCE

help:
	@echo "make setup      create .venv and install the package with all its tools"
	@echo "make demo       influence scores of the models by both recipes, then the figures and the explorer"
	@echo "make recipes    the same for other seeds of the bad model; then make demo draws them, too"
	@echo "make diagnose   how wrong these models are, by diagnose.py; then make demo draws it"
	@echo "make test       the tests that take minutes"
	@echo "make test-slow  the tests that take longer"
	@echo "make lint       formatting, lint and types"
	@echo "make explorer-bundle  the explorer's script from its modules, with npm"
	@echo "make explorer-check   these modules: lint, types, tests, and whether the script is theirs"
	@echo "make docs       the pages in docs/, with warnings as errors, in build/docs/"
	@echo "make validate   scores against retraining, on the heat equation"
	@echo "make bench      the scripts in benchmarks/"
	@echo "make sweep      seven problems, good and bad networks: do indicators tell them apart? (hours)"
	@echo "make device-check  a GPU (DEVICE=cuda) against the CPU: seconds and differences"
	@echo "make zoo        train the models in runs/, then renew model_zoo/ (hours)"
	@echo "make clean      remove what the others made, except .venv, model_zoo/ and runs/"

# ---- installation: again only when pyproject.toml or constraints.txt changed

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("pinnfluence needs Python 3.11 or newer, $(PYTHON) is %d.%d: call make PYTHON=/path/to/a/newer/python3" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[notebook,dev,docs]"
	@touch $@

# ---- scores, then figures and the explorer

demo: build/eval.ipynb build/explorer.html
	@test -d figures || { echo "eval.ipynb ran, but left no folder figures/" >&2; exit 1; }
	@echo "figures: $(CURDIR)/figures/    executed notebook: $(CURDIR)/build/eval.ipynb"
	@echo "explorer, open it in a browser: $(CURDIR)/build/explorer.html"

# A model is its files, not its folder: the folder's date also changes with files that come and go.
model_files = $(filter-out %/state.pt,$(wildcard $(addprefix model_zoo/$1/*.,pt json npy)))

$(GAUSS_NEWTON): FLAGS := --recipe gauss-newton --test_points 1000

$(SCORES) $(OF_SEEDS) $(GAUSS_NEWTON): model_zoo/%_influences/influences.safetensors: \
		$$(call model_files,$$(subst _gauss-newton,,$$*)) calc_influences.py $(SOURCES) | $(STAMP)
	$(BIN)/python calc_influences.py --checkpoint model_zoo/$(subst _gauss-newton,,$*) $(FLAGS) \
		--save_path $(@D)
	@test -s $@ || { echo "calc_influences.py did not write $@" >&2; exit 1; }
	@touch $@

recipes: build/recipes

# The second file has no rule: the notebook is drawn again after it, and never asks for these scores.
build/recipes: $(OF_SEEDS) $(GAUSS_NEWTON)
	@mkdir -p build
	@touch $@ build/recipes.made

diagnose: build/diagnoses

build/diagnoses: $(DIAGNOSES)
	@mkdir -p build
	@touch $@ build/recipes.made

$(DIAGNOSES): model_zoo/%_diagnosis/report.json: $$(call model_files,$$*) diagnose.py $(SOURCES) | $(STAMP)
	$(BIN)/python diagnose.py --checkpoint model_zoo/$* --save_path $(@D)

# Executes a copy: the committed notebook stays as it is. Again, too, where figures/ is gone.
build/eval.ipynb: eval.ipynb $(SCORES) $(PREDICTING) $(wildcard build/recipes.made) $(if $(wildcard figures/*),,FORCE) | $(STAMP)
	$(BIN)/jupyter nbconvert --to notebook --execute --output-dir build eval.ipynb

build/explorer.html: explore.py $(wildcard pinnfluence/explorer/static/*) $(PREDICTING) | $(STAMP)
	$(BIN)/python explore.py $(PREDICTING:%/influences.safetensors=%) -o $@

# ---- checks

test: $(STAMP) browser
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 3600

# The explorer's page is tested in a browser; without one, the last lines of the tests say so.
browser:
	@command -v chromium chromium-browser chrome google-chrome > /dev/null || \
		! command -v apt-get > /dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update && apt-get install -y --no-install-recommends chromium; } > /dev/null 2>&1 || \
		echo "Chromium could not be installed: the explorer's tests in a browser are skipped" >&2

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The bundle is committed, so that only who changes the explorer's modules needs Node.js and npm.
explorer-bundle explorer-check: $(WEB)/node_modules/.package-lock.json
	cd $(WEB) && npm run --silent $(@:explorer-%=%)

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	cd $(WEB) && npm ci --no-audit --no-fund

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "documentation: $(CURDIR)/build/docs/index.html"

validate: $(STAMP)
	$(BIN)/python validate.py --checkpoint model_zoo/heat --polish 1e-9 --removed 60 \
		--proximal 1e-5 1e-7 1e-9 --save_path runs/heat_validation

bench: $(STAMP)
	@test -n "$(BENCHMARKS)" || { echo "no scripts in benchmarks/" >&2; exit 1; }
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Snakemake lives apart: it needs older versions of packages that others need newer. The first call
# makes the first network's rows of experiments/results/sweep/ within minutes, the second all.
SNAKEMAKE ?= build/snakemake/bin/snakemake
JOBS ?= $(shell nproc 2> /dev/null || sysctl -n hw.ncpu)

sweep: $(STAMP) $(SNAKEMAKE)
	$(SNAKEMAKE) -s workflow/Snakefile --cores $(JOBS) --rerun-incomplete --quiet rules -- first
	$(SNAKEMAKE) -s workflow/Snakefile --cores $(JOBS) --rerun-incomplete --keep-going --quiet rules

build/snakemake/bin/snakemake: pyproject.toml
	$(PYTHON) -m venv build/snakemake
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["workflow"], sep="\n")' \
		| build/snakemake/bin/python -m pip install --quiet -r /dev/stdin
	@touch $@

device-check: $(STAMP)
	$(BIN)/python benchmarks/device_check.py --device $(DEVICE)

# ---- training

# Runs stay in runs/, with the state from which they go on; model_zoo/ gets what is committed.
zoo: $(STAMP)
	$(BIN)/python train.py --save_path runs/good
	$(BIN)/python train.py --broken --save_path runs/broken
	$(BIN)/python train.py --num_domain 1500 --num_boundary 500 --save_path runs/bad
	$(BIN)/python train.py --variant best --num_domain 1000 --num_boundary 1000 --n_iterations_lm 400 \
		--sampler rard --sampler_mode add --sampler_every 10 --sampler_points 100 --patience 100 \
		--save_path runs/best
	$(BIN)/python train.py --variant best --num_domain 2500 --num_boundary 800 \
		--n_iterations_lm 200 --save_path runs/overfit
	$(BIN)/python train.py --start_from runs/good --n_iterations 0 --n_iterations_lbfgs 11206 \
		--dtype float64 --save_path runs/good_float64
	for seed in 43 44; do \
		$(BIN)/python train.py --num_domain 1500 --num_boundary 500 --seed $$seed \
			--save_path runs/bad_$$seed; \
	done
	$(BIN)/python train.py --problem heat --n_iterations 15000 --n_iterations_lbfgs 5000 \
		--n_iterations_lm 120 --dtype float64 --save_path runs/heat
	$(BIN)/python train.py --problem burgers --n_iterations 5000 --n_iterations_lbfgs 3000 \
		--n_iterations_lm 200 --dtype float64 --save_path runs/burgers
	for model in $(MODELS) overfit good_float64 $(SEEDS) heat burgers; do \
		mkdir -p model_zoo/$$model; \
		rm -f model_zoo/$$model/*.pt; \
		cp "$$(ls -t runs/$$model/{lbfgs,lm}-*.pt 2> /dev/null | head -1)" model_zoo/$$model/; \
		cp runs/$$model/{train_x.npy,config.json,history.csv,history.png} model_zoo/$$model/; \
	done

clean:
	rm -rf build dist figures model_zoo/*_influences .pytest_cache .mypy_cache .ruff_cache
