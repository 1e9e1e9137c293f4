# make run      set up, show the demo, then watch this machine in a dry run
# make test     set up, run every test
# make install  protect this machine: unit, configuration, enable (as root); make uninstall undoes it

SHELL := /bin/bash
PYTHON ?= python3
PREFIX ?= /opt/oomd
CONFIG ?= /etc/oomd
UNITS ?= /etc/systemd/system
VENV := .venv
BIN := $(VENV)/bin

# Whatever is started from here may touch only what was started from here: the tree of this make.
MAKE_PID := $(shell echo $$PPID)
export OOMD_SCOPE ?= tree:$(MAKE_PID)

PACKAGES := python3 python3-venv python3-dev gcc pkg-config libsystemd-dev
TEST_PACKAGES := systemd strace

.PHONY: setup packages run test lint install uninstall clean

setup: $(VENV)/.ready

packages:
	@.ci/packages $(PACKAGES)

$(VENV)/.ready: pyproject.toml | packages
	@$(PYTHON) -c 'import sys; sys.exit("oomd needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,systemd]'
	@touch $@

run: setup
	$(BIN)/oomd demo
	@echo
	@echo "To protect this machine for real: make install (as root), or $(BIN)/oomd run."
	@echo "Now watching it in a dry run: decisions are told, nobody is signalled. Ctrl-C ends it."
	@# A dry run signals nobody, so it may look at the whole machine.
	OOMD_SCOPE= $(BIN)/oomd run --dry-run --runtime-dir "$${TMPDIR:-/tmp}/oomd-dry-run-$$(id -u)"

test: setup
	@.ci/packages $(TEST_PACKAGES)
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

install: packages
	$(PYTHON) -m venv $(DESTDIR)$(PREFIX)
	$(DESTDIR)$(PREFIX)/bin/pip install --quiet --disable-pip-version-check '.[systemd]'
	$(DESTDIR)$(PREFIX)/bin/python -m compileall -q $(DESTDIR)$(PREFIX)/lib
	install -d $(DESTDIR)$(CONFIG) $(DESTDIR)$(UNITS)
	test -e $(DESTDIR)$(CONFIG)/oomd.yaml || install -m 644 configs/oomd.yaml $(DESTDIR)$(CONFIG)/oomd.yaml
	sed -e 's|@BIN@|$(PREFIX)/bin|' -e 's|@CONFIG@|$(CONFIG)|' systemd/oomd.service > $(DESTDIR)$(UNITS)/oomd.service
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemctl daemon-reload && systemctl enable --now oomd.service && systemctl --no-pager status oomd.service; \
	else echo "installed; systemd does not run here (or DESTDIR is set), so nothing was started"; fi

uninstall:
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl disable --now oomd.service; fi
	rm -rf $(DESTDIR)$(PREFIX) $(DESTDIR)$(UNITS)/oomd.service
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@echo "$(CONFIG)/oomd.yaml is kept"

clean:
	rm -rf $(VENV) build dist *.egg-info
