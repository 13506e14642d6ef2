# minidock: `make help` lists what can be made. Everything runs as root: containers are the kernel's business.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lab demo test lint suite notebooks test-notebooks prove-notebooks fuzz torture oracle docker-py vm-test vm-notebooks vagrant-test bench count

VENV := .venv/bin
PYTEST := $(VENV)/python -m pytest
# Nobody else works here while the tests run: whatever looks like minidock's and is new counts as left behind.
export MINIDOCK_LEAKS ?= strict

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## all of the set-up: packages, .venv, the minidock command, the registry with its images; opens nothing
	@echo "setup:"
	@setup/provision.sh

lab: setup ## open the course in JupyterLab on 127.0.0.1 (prints the URL)
	@setup/lab.sh

demo: setup ## a narrated tour in the terminal, under a minute
	@$(VENV)/python -m minidock.lab.demo

test: setup ## every check: lint, the tests, the notebooks
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory suite
	@$(MAKE) --no-print-directory test-notebooks
	@echo "all passed"

lint: ## style, types, shell scripts
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy
	@for script in setup/*.sh setup/vm/*.sh .ci/run; do bash -n "$$script"; done
	@if command -v shellcheck >/dev/null; then shellcheck setup/*.sh setup/vm/*.sh .ci/run; else echo "SKIPPED: shellcheck is not installed"; fi
	@if command -v vagrant >/dev/null; then vagrant validate --ignore-provider; else echo "SKIPPED: vagrant is not installed, the Vagrantfile was not validated"; fi

suite: ## the tests alone (PYTEST_ARGS="-k rootfs" chooses)
	@$(PYTEST) -n 2 --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-notebooks: ## run every notebook of the course and compare what must not change
	@setup/world.sh $(PYTEST) --nbval-lax --nbval-cell-timeout=120 -q $(wildcard notebooks labs)

notebooks: ## execute every notebook again and keep what differs
	@unshare --pid --mount --fork --kill-child sh -c 'umount -l /proc && mount -t proc proc /proc && exec "$$@"' \
		sh setup/world.sh $(VENV)/python setup/notebooks.py

prove-notebooks: ## run every notebook twice in a row, last one first, in one world: none may fail
	@setup/world.sh bash -c 'set -e; set -- $$(ls -r notebooks/*.ipynb labs/*/lab.ipynb); for _ in 1 2; do $(PYTEST) --nbval-lax --nbval-cell-timeout=120 -q "$$@"; done'

fuzz: setup ## the fuzz tests, a thousand times longer than in `make test`; the API for ten minutes
	@MINIDOCK_LONG=1 $(PYTEST) -n 2 tests/test_fuzz_*.py tests/server/test_fuzz_api.py

torture: setup ## kill -9 and races, for minutes
	@MINIDOCK_LONG=1 $(PYTEST) tests/test_torture_*.py

oracle: setup ## docker, podman and skopeo judge our images and our behaviour (loud where they are missing)
	@$(PYTEST) -n 2 --dist loadfile -m peer $(PYTEST_ARGS)

docker-py: setup ## the tests of the docker SDK for Python that pass on dockerd (DOCKER_PY=DIR with its source)
	@$(PYTEST) tests/server/test_docker_py.py $(PYTEST_ARGS)

vm-test: setup ## boot a VM with cgroup v2 under QEMU and run the vm subset there, then reboot it (SUITE=bookworm)
	@setup/vm/test.sh $(SUITE)

vm-notebooks: setup ## execute lesson 03 again on cgroup v2 and keep what differs (FILES="notebooks/03_….ipynb")
	@setup/vm/notebooks.sh $(or $(FILES),$(wildcard notebooks/03_*.ipynb))

vagrant-test: setup ## a real `vagrant up` of the Vagrantfile under libvirt, with a box made here
	@setup/vm/vagrant.sh

bench: setup ## measure, beside the peers that are installed
	@$(VENV)/python -m benchmarks

count: ## how long is what the lessons walk through
	@$(VENV)/python setup/count.py
