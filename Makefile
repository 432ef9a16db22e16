# Every target makes what it needs: `make repro` on a fresh clone is enough.
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The stages call `truefit` and `python` by name; they must find this environment's.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help repro check test verify quick lab lock tidy lint bench-compression bench-models bench-pipeline bench-serving bench-solver fuzz-serving environment

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: environment ## run what has changed of the pipeline, on all cores; JOBS=1 for one stage at a time
	truefit repro $(if $(JOBS),--jobs $(JOBS))

check: lint ## check code and types, and run the quick tests: within a minute, at each change
	pytest -m "not slow"

test: environment ## run every test
	pytest

verify: environment ## run the pipeline again from nothing; fail if any committed result changes
	rm -rf .searches
	truefit repro --force $(if $(JOBS),--jobs $(JOBS))
	git diff --exit-code --stat HEAD
	test -z "$$(git status --porcelain)"

quick: environment ## run every notebook with the quick parameters, in a copy that is thrown away
	truefit quick

lab: environment ## open the notebooks in JupyterLab
	jupyter lab --notebook-dir=notebooks

lock: environment ## write both locks anew from pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --upgrade --python-version 3.11 --extra dev --extra dask \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.txt
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --constraint requirements.txt \
		--group pyproject.toml:serve --custom-compile-command "make lock" --output-file deploy/requirements.txt

tidy: environment ## strip outputs from the notebooks, format the code, write its stages into dvc.yaml
	nbstripout notebooks/*.ipynb
	python -m truefit.dependencies
	ruff check --fix
	ruff format

lint: environment ## check code, types and notebooks without changing them
	ruff check
	ruff format --check
	pyrefly check --summary=none
	nbstripout --verify notebooks/*.ipynb

bench-compression: environment ## measure how quick each variant of a model is; writes benchmarks/compression.json
	python benchmarks/compression.py

bench-models: environment ## measure how good the models are on others' splits; writes benchmarks/models.json
	python benchmarks/models.py

bench-pipeline: environment ## measure what the notebooks cost over plain scripts; writes benchmarks/pipeline.json
	python benchmarks/pipeline.py

bench-serving: environment ## measure the service beside others; needs wrk; writes benchmarks/serving.json
	python benchmarks/serving.py

bench-solver: environment ## measure least_squares beside other solvers; writes benchmarks/solver.json
	python benchmarks/solver.py

fuzz-serving: environment ## send 100,000 requests that nobody thought of to the service
	TRUEFIT_FUZZ=100000 pytest -n 0 -s tests/test_fuzz.py

environment: $(VENV)/complete

$(VENV)/complete: requirements.txt pyproject.toml
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Truefit needs Python 3.11: make PYTHON=/path/to/python3.11")'
	"$(PYTHON)" -m venv $(VENV)
	sed -n '/^uv==/,/# via/p' requirements.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.txt
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@
