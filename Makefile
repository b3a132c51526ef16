# Every target sets up all it needs; see CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.PHONY: setup demo test check docs bench clean

setup:
	@bash scripts/setup.sh

# A phantom, seven labelled slices, training, prediction, evaluation and a report, in ./demo
demo: setup
	@$(BIN)/cristae phantom demo
	@$(BIN)/cristae run demo
	@$(BIN)/cristae evaluate demo
	@echo "open demo/report/index.html in a browser"

# Two processes with one thread each: several threads each on two cores would wait for one another most of the time.
test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

# What to run before each commit
check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q -m 'not slow'

docs: setup
	@$(BIN)/mkdocs build --strict --quiet
	@echo "docs in site/index.html"

bench: setup
	@$(BIN)/python -m benchmarks --all

clean:
	@rm -rf demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
