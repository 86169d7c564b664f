# A thin front to the `goldsmith` command. `make help` lists the targets.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := python3-venv lxc uidmap mmdebstrap btrfs-progs e2fsprogs nftables iproute2 dnsmasq-base zstd sudo \
            openssh-client debian-archive-keyring git
.DEFAULT_GOAL := help
.PHONY: help install lxc-image lxc-image-check lxc-test images publish check test test-slow test-lxc test-vm test-contract test-journey

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(VENV)/.installed ## Install system packages, the virtual environment, roles and collections

$(VENV)/.packages: Makefile
	@mkdir -p $(VENV)
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null
	@touch $@

$(VENV)/.installed: $(VENV)/.packages pyproject.toml requirements.yml
	[ -x $(BIN)/python ] || python3 -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@if grep -q '^ *- ' requirements.yml; then \
	  $(BIN)/ansible-galaxy role install -r requirements.yml && $(BIN)/ansible-galaxy collection install -r requirements.yml; fi
	@touch $@

lxc-image: install ## Build images/lxc: a template, and a version in repository/
	$(BIN)/goldsmith build images/lxc

lxc-image-check: install ## Show what `make lxc-image` would do; changes nothing
	$(BIN)/goldsmith build images/lxc --check

lxc-test: install ## Test the newest version of images/lxc on fresh guests
	$(BIN)/goldsmith test images/lxc

images: install ## List the versions that were built
	@$(BIN)/goldsmith images

publish: install ## Bring tested versions to the storages that `publish` in vars.yml names
	$(BIN)/goldsmith publish

$(VENV)/.test-packages: $(VENV)/.packages tests/install-packages.sh
	$(SUDO) tests/install-packages.sh
	@touch $@

check: install ## The fast suite: format, lint, types, import contracts, unit tests (no root)
	$(BIN)/ruff format --check src tests benchmarks examples images
	$(BIN)/ruff check src tests benchmarks examples images
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto -q -m "not slow" tests/unit

test-slow: install ## Unit tests that take longer: other tools, real Ansible, many processes that are killed
	$(BIN)/pytest -n auto --dist loadfile -q -m slow tests/unit

test-contract: install ## Our client against fakepve and the embedded node (root)
	$(SUDO) $(BIN)/pytest -n 2 --dist loadfile tests/contract

test-lxc: install ## The embedded node with real containers (root)
	$(SUDO) $(BIN)/pytest -n 2 --dist loadfile --durations=25 tests/lxc

test-vm: install ## The embedded node with a real virtual machine (root)
	$(SUDO) $(BIN)/pytest --durations=10 tests/vm

test-journey: install ## The command line from end to end (root)
	$(SUDO) $(BIN)/pytest -n 2 --dist loadfile --durations=10 tests/journey

test: $(VENV)/.test-packages check test-slow test-contract test-lxc test-vm test-journey ## Every test; needs root or sudo
