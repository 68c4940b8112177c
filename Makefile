# make demo and make test are all a fresh machine needs; both install into .venv when it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

# Many processes are started below: their modules are compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs format benchmark-speed

demo: $(INSTALLED)
	@$(BIN)/python benchmarks/demo.py

test: $(INSTALLED)
	@$(BIN)/pytest

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory docs
	$(BIN)/pytest

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark-speed: $(INSTALLED)
	$(BIN)/python benchmarks/speed/run.py

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing kdshift and its libraries into .venv: about 6 GB and a few minutes, once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
