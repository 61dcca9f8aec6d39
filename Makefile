# llmgw.h is one header: there is nothing to build or install in order to use it. This Makefile builds
# and runs what surrounds it: the examples, the tests, the checks and the benchmarks. All output goes to
# build/. `make` alone prints the list of targets; it is made from the "##" comments below.
#
# A file's name says how it is built:
#   tests/test_NAME.c    a cmocka program                  -> build/test_NAME
#   tests/fuzz_NAME.c    a fuzz target, its corpus in tests/corpus/NAME/
#                          by gcc, replaying files         -> build/replay/fuzz_NAME
#                          by clang's fuzzer               -> build/fuzz/fuzz_NAME
#   tests/NAME.c         a helper program (fake_provider)  -> build/NAME
#   examples/NAME.c,.cpp                                   -> build/examples/NAME
#   bench/NAME.c                                           -> build/bench/NAME
# Every program defines LLMGW_IMPLEMENTATION itself and says #include "llmgw.h". A new file is found
# by its name; nothing has to be added here.

VERSION := $(shell sed -n 's/^\#define LLMGW_VERSION "\(.*\)"/\1/p' llmgw.h)

# May be set on the command line: make test CC=clang CFLAGS="-O0 -g" BUILD=build/clang
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
BUILD ?= build
CFLAGS ?= -O1 -g
# Most of the time of `make test` was the compiler optimizing some fifty copies of the header. Of tests that open no
# gateway it is less with -Og, at which it drops what they do not use.
TEST_CFLAGS := $(if $(filter file,$(origin CFLAGS)),-O0 -g1)
PART_CFLAGS := $(if $(filter file,$(origin CFLAGS)),-Og -g1)
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 3600
SIM_SEEDS ?= 100
SIM_SOAK_SEEDS ?= 10000
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# Tests wait more than they compute; but some measure time.
TEST_JOBS ?= $(if $(filter 1,$(JOBS)),1,2)
STEPS ?=

# ---- what is there ----

HEADERS  := llmgw.h $(wildcard tests/*.h)
TESTS    := $(patsubst tests/%.c,$(BUILD)/%,$(sort $(wildcard tests/test_*.c)))
TOOLS    := $(patsubst tests/%.c,$(BUILD)/%,$(filter-out tests/test_% tests/fuzz_%,$(sort $(wildcard tests/*.c))))
TEST_TOOLS := $(BUILD)/fake_provider $(BUILD)/sim $(BUILD)/outage
# Those that know nothing but the public API, and define nothing for the implementation, share one object of it.
SHARING  := $(patsubst tests/%.c,$(BUILD)/%,$(filter-out tests/fuzz_% tests/sim.c,$(shell \
              grep -l 'define LLMGW_IMPLEMENTATION' tests/*.c | xargs grep -LE 'llmgwi_|LLMGWI_|define LLMGW_[^I]|unit\.h')))
PARTS    := $(patsubst tests/%.c,$(BUILD)/%,$(shell \
              grep -LE 'llmgw_open|LLMGW_NO_STORE|(testing|killing|spending)\.h' tests/test_*.c))
REPLAYS  := $(patsubst tests/%.c,$(BUILD)/replay/%,$(sort $(wildcard tests/fuzz_*.c)))
FUZZERS  := $(patsubst tests/%.c,$(BUILD)/fuzz/%,$(sort $(wildcard tests/fuzz_*.c)))
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/examples/%,$(sort $(wildcard examples/*.c))) \
            $(patsubst examples/%.cpp,$(BUILD)/examples/%,$(sort $(wildcard examples/*.cpp)))
BENCHES  := $(patsubst bench/%.c,$(BUILD)/bench/%,$(sort $(wildcard bench/*.c)))
FORMATTED := $(wildcard llmgw.h tests/*.c tests/*.h tests/conform/*.c tests/conform/*.h examples/*.c \
                        examples/*.cpp bench/*.c bench/*.h)

# ---- flags and libraries ----

ALL_CFLAGS   = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -I. -Itests $(CFLAGS)
ALL_CXXFLAGS = -std=c++17 -Wall -Wextra -Wno-unused-parameter -I. $(CFLAGS)
# The others have functions of the API to themselves: a compiler drops those that a program does not use (gcc: from -O1).
PRIVATE_API  = '-DLLMGW_API=static __attribute__((unused))'
FUZZ_CFLAGS  = $(PRIVATE_API) -std=gnu11 -O1 -g -I. -Itests -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
LIBS         = -Wl,--as-needed -lcurl -llmdb -lxxhash -lpthread -lm
TEST_LIBS    = $(LIBS) -lcmocka -ljansson -luv -lsodium
EXAMPLE_LIBS = $(LIBS) -luv
TOOL_LIBS    = $(TEST_LIBS) -lmicrohttpd -lgnutls
BENCH_LIBS   = $(LIBS) -ljansson -lcjson -luv

# ---- Debian packages ----

DEPS := gcc g++ make pkg-config libcurl4-openssl-dev libxxhash-dev liblmdb-dev libsodium-dev libcmocka-dev libmicrohttpd-dev \
        libgnutls28-dev libjansson-dev ca-certificates libuv1-dev openssl nghttp2-proxy
DEPS_CHECK   := $(DEPS) clang libclang-rt-14-dev clang-format valgrind python3 prometheus
DEPS_BENCH   := $(DEPS) libcjson-dev
# node and npm may come from elsewhere than Debian: then the packages are left alone.
DEPS_CONFORM  = $(DEPS) python3-venv $(shell command -v node >/dev/null 2>&1 || echo nodejs) \
                $(shell command -v npm >/dev/null 2>&1 || echo npm)

# Builds goals in parallel, also when make was started without -j.
build = +@$(MAKE) --no-print-directory -j$(JOBS) $(1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help all deps deps-check deps-bench deps-conform programs demo test check conform bench fuzz soak \
        torture format format-check clean

help: ## this list
	@echo "llmgw.h $(VERSION)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: deps ## the library at work against a fake provider on this machine: no key, no cost
	$(call build,$(BUILD)/fake_provider $(BUILD)/demo)
	@BUILD=$(BUILD) tests/demo.sh

test: deps ## all tests, the examples, the fuzz targets over their corpus, SIM_SEEDS (100) simulated worlds
	$(call build,$(TEST_TOOLS) $(TESTS) $(REPLAYS) $(EXAMPLES))
	@BUILD=$(BUILD) JOBS=$(TEST_JOBS) tests/run.sh --command "$(BUILD)/sim --seeds 1 $(SIM_SEEDS)" \
		"$(BUILD)/outage --seconds 6" --test $(TESTS) --examples --replay $(REPLAYS)

check: deps-check ## the whole matrix: compilers, standards, lint, sanitizers, fuzzing (STEPS="lint format": some of it)
	$(call build,$(TOOLS))
	@JOBS=$(JOBS) tests/check.sh $(STEPS)

conform: deps-conform ## the official SDKs and recorded replies as a second opinion
	$(call build,$(TOOLS) $(EXAMPLES))
	@tests/conform/run.sh

bench: deps-bench ## benchmarks, to bench/out/results.tsv (QUICK=1: short)
	$(call build,$(BENCHES))
	@mkdir -p bench/out
	@if [ -x bench/run.sh ]; then bench/run.sh; \
	else for b in $(BENCHES); do $$b || exit 1; done > bench/out/results.tsv && cat bench/out/results.tsv; fi

fuzz: deps-check ## each fuzz target for FUZZ_SECONDS (60) under clang's fuzzer and sanitizers
	$(call build,$(FUZZERS))
	@JOBS=$(JOBS) tests/fuzz.sh $(FUZZ_SECONDS) $(FUZZERS)

soak: deps-check ## hours: SIM_SOAK_SEEDS (10000) worlds, each fuzz target for SOAK_SECONDS (3600), LLMGW_SOAK=1
	$(call build,programs $(FUZZERS))
	@$(BUILD)/sim --seeds 1 $(SIM_SOAK_SEEDS)
	@BUILD=$(BUILD) $(BUILD)/outage
	@BUILD=$(BUILD) $(BUILD)/overflow
	@BUILD=$(BUILD) $(BUILD)/test_resume --every
	@JOBS=$(JOBS) tests/fuzz.sh $(SOAK_SECONDS) $(FUZZERS)
	@BUILD=$(BUILD) LLMGW_SOAK=1 TEST_SECONDS=14400 tests/run.sh $(TESTS)

torture: deps ## fails every allocation in turn
	$(call build,$(TOOLS))
	@if [ -f tests/torture.c ]; then $(BUILD)/torture; else echo "there is no tests/torture.c"; fi

all: deps-bench ## builds the fake provider, examples, tests and benchmarks into build/, runs nothing
	$(call build,programs $(BENCHES))

format: ## clang-format over the header, tests, examples and benchmarks, in place
	clang-format -i $(FORMATTED)

format-check: ## fails where format would change something
	@clang-format --dry-run -Werror $(FORMATTED)

deps: ## installs the Debian packages that demo and test need, where missing (root or sudo)
	@tests/deps.sh $(DEPS)

deps-check:
	@tests/deps.sh $(DEPS_CHECK)

deps-bench:
	@tests/deps.sh $(DEPS_BENCH)

deps-conform:
	@tests/deps.sh $(DEPS_CONFORM)

clean: ## removes build/ and bench/out/
	rm -rf build bench/out

# ---- how each kind of program is built ----

programs: $(TOOLS) $(TESTS) $(REPLAYS) $(EXAMPLES)

$(TESTS) $(EXAMPLES) $(filter-out $(BUILD)/sim $(BUILD)/fake_provider,$(TOOLS)): ALL_CFLAGS += $(TEST_CFLAGS)
$(PARTS): ALL_CFLAGS += $(PART_CFLAGS)
$(filter-out $(SHARING),$(TESTS)): WITH = $(PRIVATE_API)
$(SHARING): WITH = -DLLMGWI_IMPLEMENTED $(BUILD)/llmgw.o
$(SHARING): $(BUILD)/llmgw.o

$(BUILD)/llmgw.o: llmgw.h
	@mkdir -p $(@D)
	printf '#define LLMGW_IMPLEMENTATION\n#include "llmgw.h"\n' | $(CC) $(ALL_CFLAGS) -x c -c - -o $@

$(TESTS): $(BUILD)/%: tests/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< $(WITH) -o $@ $(TEST_LIBS)

$(TOOLS): $(BUILD)/%: tests/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< $(WITH) -o $@ $(TOOL_LIBS)

$(BUILD)/sim: ALL_CFLAGS += -O2

$(REPLAYS): $(BUILD)/replay/%: tests/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(PRIVATE_API) -DLLMGW_FUZZ_MAIN $< -o $@ $(TEST_LIBS)

$(FUZZERS): $(BUILD)/fuzz/%: tests/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) $< -o $@ $(TEST_LIBS)

$(BUILD)/examples/%: examples/%.c llmgw.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -o $@ $(EXAMPLE_LIBS)

$(BUILD)/examples/%: examples/%.cpp llmgw.h
	@mkdir -p $(@D)
	$(CXX) $(ALL_CXXFLAGS) $< -o $@ $(EXAMPLE_LIBS)

$(BENCHES): $(BUILD)/bench/%: bench/%.c $(HEADERS) $(wildcard bench/*.h)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Wno-unused-parameter -I. -Ibench -O2 -DNDEBUG $< -o $@ $(BENCH_LIBS)
