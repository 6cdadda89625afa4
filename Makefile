# make demo   export the demo model, restore a real noisy photograph, show what was gained
# make test   linters and the whole test suite, in two processes
# make docs   build the documentation into site/; open site/index.html
# make test-extended   only what takes minutes each: 2-megapixel frames, engines of large networks
# make release-check   build, check and install the wheel and the sdist; see RELEASING.md
# All make and keep a virtual environment; PYTHON=python3.12 chooses the interpreter.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT := export/out
SITE := site

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-extended lint format release-check clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# The stamp is newer than what it was made from, or the environment is installed again.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "maxim-deploy needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,openvino,export,rtx,hdr,video,cloud,ray,serve,triton,bench,docs,dev]'
	@touch $@

install: $(VENV)/installed

demo: install
	@$(BIN)/maxim-deploy demo -o $(OUT)

# Parts of the pages are made from code and records; a test finds those that are stale.
docs: install
	$(BIN)/python docs/tools/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir $(SITE)
	@echo $(SITE)/index.html

# The linters run beside the tests and are told of when they end; either one can fail.
test: install
	@{ lint=$$($(MAKE) --no-print-directory lint 2>&1); code=$$?; \
		printf '\n%s\n' "$$lint"; exit $$code; } & linters=$$!; \
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder; tests=$$?; \
	wait $$linters || { echo "make test: the linters found faults, see above" >&2; exit 1; }; \
	exit $$tests

test-extended: install
	$(BIN)/python -m pytest --extended -m extended

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release-check: install
	$(BIN)/python .ci/release_check.py

clean:
	rm -rf $(VENV) $(OUT) $(SITE) dist
