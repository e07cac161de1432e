# Each target sets up what it needs. PYTHON is the interpreter that .venv is made with.
PYTHON ?= python3
# More than two cores have: tests wait for programs, disks and servers too.
WORKERS ?= 3
# Of install-systemd.
PREFIX ?= /opt/mirror
UNITS ?= /etc/systemd/system
SYSUSERS ?= /etc/sysusers.d
TMPFILES ?= /etc/tmpfiles.d

VENV := .venv
BENCH := .venv-bench
# Of .venv-bench: the newest release of bandersnatch needs 3.12, which may be pyenv's.
BENCH_PYTHON ?= $(firstword $(foreach name,python3.14 python3.13 python3.12,$(shell $(name) --version >/dev/null 2>&1 && echo $(name))) \
    $(lastword $(sort $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python))) $(PYTHON))
DOCS := .venv-docs
BENCH_OPTIONS ?=
KEY ?=
BASE ?=
OUT ?= dist
CASE ?= cold-small
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The tests start Python hundreds of times: without bytecode on disk each start compiles what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install-systemd demo test coverage check floors release lint docs bench profile soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## mirror an index made for the purpose on this machine, and install from the mirror
	@$(BIN)/python tests/demo.py

test: lint ## check the style, then run all tests
	@.ci/system-packages
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=15

coverage: $(READY) ## run all tests with branch coverage, which takes half as long again
	@.ci/system-packages
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --cov --cov-branch --cov-report=term:skip-covered --cov-fail-under=92
	@$(BIN)/coverage report --include='mirror/core/*' --skip-covered --show-missing --fail-under=99

check: lint ## what a commit needs within two minutes: style, types and layers, the tests of core and of the state
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/core tests/state

floors: $(READY) ## test the oldest dependencies that pyproject.toml allows, in an environment of its own
	@.ci/floors

release: $(READY) ## make and sign a release in OUT (default dist); KEY=a key of `mirror bundle key`, BASE=an image with @sha256:
	@$(BIN)/python .ci/release.py --key "$(KEY)" --base "$(BASE)" --out "$(OUT)"

lint: $(READY) ## format, lint, types, layers and figures of style, without changing a file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict mirror
	$(BIN)/lint-imports
	$(BIN)/python tests/style/figures.py

docs: $(DOCS)/.ready ## build the documents into build/docs, for reading without a network
	@$(DOCS)/bin/sphinx-build --fail-on-warning --keep-going --quiet -c docs -b html . build/docs
	@echo "open build/docs/docs/index.html"

bench: $(READY) $(BENCH)/.ready ## measure beside peers, in turn; BENCH_OPTIONS=--quick takes some minutes, --full adds 730,000 projects
	@.ci/system-packages rclone
	@PYTHONPATH=tests $(BIN)/python -m bench --bandersnatch $(BENCH)/bin/bandersnatch --keep $(BENCH_OPTIONS)

profile: $(READY) $(BENCH)/.ready ## where the time goes; CASE=cold-small, cold-large, idle-serials or idle-etags
	@PYTHONPATH=tests $(BIN)/python -m bench.profiling --py-spy $(BENCH)/bin/py-spy $(CASE)

soak: $(READY) ## kills, histories and property tests by the hundreds and thousands, with their figures; takes long
	@.ci/system-packages radosgw ceph-mon ceph-osd ceph-mgr
	@HYPOTHESIS_PROFILE=soak PYTHONPATH=tests $(BIN)/python -m soak --workers $(WORKERS)

# For packagers; a machine gets its units by `mirror install-units`, from the same files.
install-systemd: ## install the units below DESTDIR (default /), for a program in PREFIX (default /opt/mirror)
	@install -d "$(DESTDIR)$(UNITS)/mirror.service.d" "$(DESTDIR)$(UNITS)/mirror-once.service.d" \
	    "$(DESTDIR)$(SYSUSERS)" "$(DESTDIR)$(TMPFILES)"
	@for unit in mirror.service mirror-once.service mirror-once.timer mirror-serve.service mirror-serve.socket; do \
	    sed 's#/opt/mirror/bin/#$(PREFIX)/bin/#' mirror/systemd/$$unit \
	        | install -m 0644 /dev/stdin "$(DESTDIR)$(UNITS)/$$unit"; \
	done
	@install -m 0644 mirror/systemd/mirror.service.d/credential.conf.example "$(DESTDIR)$(UNITS)/mirror.service.d/"
	@for drop_in in credential.conf root.conf override.conf; do \
	    ln -sfn ../mirror.service.d/$$drop_in "$(DESTDIR)$(UNITS)/mirror-once.service.d/$$drop_in"; \
	done
	@install -m 0644 mirror/systemd/mirror.sysusers.conf "$(DESTDIR)$(SYSUSERS)/mirror.conf"
	@install -m 0644 mirror/systemd/mirror.tmpfiles.conf "$(DESTDIR)$(TMPFILES)/mirror.conf"
	@echo "Next: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now mirror"

clean: ## remove the virtual environment, caches and what was built
	rm -rf $(VENV) $(BENCH) $(DOCS) build dist .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(DOCS)/.ready: docs/requirements.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@echo "installing into $(DOCS) …"
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(BENCH)/.ready: bench/requirements.txt
	@.ci/system-packages
	@test -x $(BENCH)/bin/python || $(BENCH_PYTHON) -m venv $(BENCH)
	@echo "installing into $(BENCH) …"
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
