# `make check` is what a change has to pass; .ci/run does the same in a new virtual environment.
.PHONY: check lint types test docs site format

check: lint types test docs

lint:
	ruff check .
	ruff format --check .
	codespell

types:
	mypy

test:
	pytest

docs:
	npm --prefix docs ci --silent
	sphinx-build -W -n --keep-going -E -j auto -b html docs build/docs

site: docs
	python -m webbrowser -t "file://$(CURDIR)/build/docs/index.html"

format:
	ruff check --fix .
	ruff format .
