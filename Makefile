# make run        set up, show the demo, then watch this machine in a dry run
# make test       set up, run every test
# make vm         every test of the VM lab: a real kernel that really runs out of memory (make test: a selection)
# make bench      what oomd promises of its speed, measured on this machine
# make takeover   the same as systemd-oomd.service, so that units' own settings (ManagedOOMSwap= …) are honoured
# make install    protect this machine: unit, configuration, enable (as root); make uninstall undoes it
# PYTHON=, PREFIX=, CONFIG=, UNITS=, BUS=, CATALOG= and DESTDIR= say where.

SHELL := /bin/bash
PYTHON ?= python3
PREFIX ?= /opt/oomd
CONFIG ?= /etc/oomd
UNITS ?= /etc/systemd/system
BUS ?= /etc/dbus-1/system.d
# What `journalctl -x` says of our messages.
CATALOG ?= /usr/local/lib/systemd/catalog
VENV := .venv
BIN := $(VENV)/bin
HOME_OF := $(DESTDIR)$(PREFIX)
# Nothing else may kill for the same shortage.
# What make takeover has made; a packaged unit of that name lies elsewhere, and is not touched.
TAKEN := $(DESTDIR)$(UNITS)/systemd-oomd.service
# Who may speak as systemd-oomd on the message bus, and ask it how things stand.
ON_THE_BUS := $(DESTDIR)$(BUS)/oomd-oom1.conf
RELOAD_BUS := busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig || true
GIVES_WAY := $(DESTDIR)$(UNITS)/systemd-oomd.service.d/oomd.conf
# Only a directory that make install has made is ever removed.
OURS := $(HOME_OF)/.installed-by-oomd

# Whatever is started from here may touch only what was started from here: the tree of this make.
MAKE_PID := $(shell echo $$PPID)
export OOMD_SCOPE ?= tree:$(MAKE_PID)

PACKAGES := python3 python3-venv python3-dev gcc pkg-config libsystemd-dev
TEST_PACKAGES := systemd strace dbus-daemon python3-gi gir1.2-glib-2.0
# Unpacked for the tests, never installed.
UNPACKED := prometheus prometheus-node-exporter
# Unpacked for the benchmarks: they search for victims there, and may take none.
RIVALS := earlyoom nohang
VM_PACKAGES := mmdebstrap e2fsprogs debian-archive-keyring
# What the killer loads is compiled without docstrings, assertions and columns of tracebacks, and put into one file.
LEANLY := -X no_debug_ranges -m compileall -q -f -o 2
PACKED := -P -X no_debug_ranges -m oomd.packing
PIP := pip install --quiet --disable-pip-version-check

.PHONY: setup packages run test vm bench lint install takeover leave uninstall clean

setup: $(VENV)/.ready
	@$(BIN)/python3 $(LEANLY) oomd
	@$(BIN)/python3 $(PACKED)

packages:
	@.ci/packages $(PACKAGES)

$(VENV)/.ready: pyproject.toml | packages
	@$(PYTHON) .ci/check_python.py
	$(PYTHON) -m venv $(VENV)
	@extras=$$(.ci/extras dev) && set -x && $(BIN)/python3 -m $(PIP) -e ".[$$extras]"
	@touch $@

run: setup
	$(BIN)/oomd demo
	@echo
	@echo "To protect this machine for real: make install (as root), or $(BIN)/oomd run."
	@echo "Now watching it in a dry run: decisions are told, nobody is signalled. Ctrl-C ends it."
	@# A dry run signals nobody, so it may look at the whole machine.
	OOMD_SCOPE= $(BIN)/oomd run --dry-run --scope machine --runtime-dir $(VENV)/run

test: setup
	@.ci/packages $(TEST_PACKAGES) $(VM_PACKAGES)
	@.ci/unpack $(UNPACKED)
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m "vm and not vm_long" tests/vm

# Boots small machines under QEMU and runs them out of memory; the guest is built once, from Debian's packages (needs root).
vm: setup
	@.ci/packages $(VM_PACKAGES)
	$(BIN)/python -m pytest -m vm tests/vm

# The promises about speed: a quiet machine, root, 8 GiB, some twenty minutes.
# `.venv/bin/python -m pytest -m bench -s tests/bench/test_race.py` compares oomd with others only (ten minutes).
bench: setup
	@.ci/unpack $(RIVALS)
	$(BIN)/python -m pytest -m bench -s tests/bench

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

install: packages leave
	@if [ -n "$$(ls -A $(HOME_OF) 2>/dev/null)" ] && [ ! -e $(OURS) ]; then \
		echo "$(HOME_OF) holds something else; oomd needs a directory of its own (PREFIX=)" >&2; exit 1; fi
	@$(PYTHON) .ci/check_python.py --for-service
	install -d $(HOME_OF) $(DESTDIR)$(CONFIG) $(DESTDIR)$(UNITS)
	touch $(OURS)
	$(PYTHON) -m venv $(HOME_OF)
	rm -rf build
	@extras=$$(.ci/extras) && set -x && $(HOME_OF)/bin/python3 -m $(PIP) ".$${extras:+[$$extras]}"
	$(HOME_OF)/bin/python3 $(LEANLY) $(HOME_OF)/lib/python3*/site-packages/oomd
	$(HOME_OF)/bin/python3 $(PACKED)
	rm -rf build oomd.egg-info
	$(if $(DESTDIR),grep -lIr '$(HOME_OF)' $(HOME_OF)/bin | xargs sed -i 's|$(HOME_OF)|$(PREFIX)|g')
	test -e $(DESTDIR)$(CONFIG)/oomd.yaml || install -m 644 configs/oomd.yaml $(DESTDIR)$(CONFIG)/oomd.yaml
	sed -e 's|@BIN@|$(PREFIX)/bin|' -e 's|@CONFIG@|$(CONFIG)|' systemd/oomd.service > $(DESTDIR)$(UNITS)/oomd.service
	sed -e 's|@BIN@|$(PREFIX)/bin|' -e 's|@CONFIG@|$(CONFIG)|' systemd/oomd-lmkd.service > $(DESTDIR)$(UNITS)/oomd-lmkd.service
	install -m 644 systemd/oomd-lmkd.socket $(DESTDIR)$(UNITS)/oomd-lmkd.socket
	install -m 644 systemd/oomd-metrics.socket $(DESTDIR)$(UNITS)/oomd-metrics.socket
	test -e $(DESTDIR)$(CONFIG)/lmkd.prop || install -m 644 configs/lmkd.prop $(DESTDIR)$(CONFIG)/lmkd.prop
	install -D -m 644 systemd/systemd-oomd-gives-way.conf $(GIVES_WAY)
	install -D -m 644 systemd/oomd.catalog $(DESTDIR)$(CATALOG)/oomd.catalog
	install -D -m 644 systemd/oomd-low-memory.conf $(DESTDIR)$(BUS)/oomd-low-memory.conf
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		journalctl --update-catalog; $(RELOAD_BUS); systemctl daemon-reload && \
		systemctl enable oomd.service && systemctl restart oomd.service && \
		systemctl --no-pager status oomd.service; \
	else echo "installed; systemd does not run here (or DESTDIR is set), so nothing was started"; fi
	@echo "the program is $(PREFIX)/bin/oomd, its configuration $(CONFIG)/oomd.yaml"

takeover: install
	sed -e 's|@BIN@|$(PREFIX)/bin|' -e 's|@CONFIG@|$(CONFIG)|' systemd/systemd-oomd.service > $(TAKEN)
	install -m 644 systemd/systemd-oomd.socket $(TAKEN:.service=.socket)
	install -D -m 644 systemd/oomd-oom1.conf $(ON_THE_BUS)
	sed -i '/^\(PartOf\|Service\|WantedBy\)=/s/=oomd/=systemd-oomd/' $(DESTDIR)$(UNITS)/oomd-metrics.socket
	rm -f $(GIVES_WAY)
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		$(RELOAD_BUS); systemctl daemon-reload && systemctl disable --now oomd.service && \
		systemctl enable systemd-oomd.socket systemd-oomd.service && systemctl restart systemd-oomd.service && \
		systemctl --no-pager status systemd-oomd.service; fi

# Undoes a takeover, if there was one.
leave:
	@if grep -qs 'python3 -m oomd ' $(TAKEN); then \
		if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
			systemctl disable --now systemd-oomd.service systemd-oomd.socket; fi; \
		rm -f $(TAKEN) $(TAKEN:.service=.socket) $(ON_THE_BUS); fi

uninstall: leave
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ] && [ -e $(UNITS)/oomd.service ]; then \
		systemctl disable --now oomd.service oomd-metrics.socket oomd-lmkd.socket oomd-lmkd.service; fi
	@if [ -d $(HOME_OF) ] && [ ! -e $(OURS) ]; then \
		echo "$(HOME_OF) was not made by make install; left alone" >&2; else rm -rf $(HOME_OF); fi
	rm -f $(DESTDIR)$(UNITS)/oomd-metrics.socket
	rm -f $(DESTDIR)$(UNITS)/oomd.service $(DESTDIR)$(UNITS)/oomd-lmkd.service $(DESTDIR)$(UNITS)/oomd-lmkd.socket
	rm -f $(GIVES_WAY) $(DESTDIR)$(CATALOG)/oomd.catalog $(DESTDIR)$(BUS)/oomd-low-memory.conf
	@rmdir $(dir $(GIVES_WAY)) 2>/dev/null || true
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemctl daemon-reload; journalctl --update-catalog; fi
	@echo "$(DESTDIR)$(CONFIG)/oomd.yaml is kept, if it was there"

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage oomd/__pycache__/killer.*
