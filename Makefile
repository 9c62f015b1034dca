# What people call; CI calls the same. Everything that takes long to build is kept in a cache
# outside the checkout: set KEELSON_CACHE to move it, delete it to lose nothing but time.

export KEELSON_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/keelson
export CARGO_TARGET_DIR ?= $(KEELSON_CACHE)/target
RELEASE := $(CARGO_TARGET_DIR)/release
# Told by --version. Another commit compiles the server's own crate anew, nothing else; it is set for every target, so that
# they do not take turns at that.
export KEELSON_COMMIT := $(or $(KEELSON_COMMIT),$(shell git rev-parse --short HEAD 2>/dev/null),unknown)
PORT ?= 2379
DATA ?= keelson-data

.PHONY: help setup setup-build build xtask image run test simulate chaos soak fuzz bench verify rights peers node-peers up down e2e-node e2e-node-if-able

help:
	@echo "make run     set up, build, and serve a member on localhost:$(PORT)"
	@echo "make test    set up and run every test (builds real etcd and Kubernetes to compare with; root)"
	@echo "make build   release binaries in bin/: keelson, keelsonctl, keelson-operator"
	@echo "make image   the container image, in bin/image.tar"
	@echo "make bench   measure keelson beside etcd (QUICK=1 for the short form)"
	@echo "make simulate  the cluster logic on a simulated network, clock and disk, for SIM_SECONDS=60"
	@echo "make chaos   three or five members under load and every fault, for MINUTES=60"
	@echo "make soak    the long tests"
	@echo "make fuzz    every fuzz target, guided by coverage, for SECONDS=60 each (needs cargo-bolero)"
	@echo "make verify  formatting, lints, dependency rules"
	@echo "make up      a whole Kubernetes on this machine (root), with the operator and a cluster of three; NODES=3 for more nodes"
	@echo "make down    remove it, all of it"
	@echo "make e2e-node  the operator's tests on such a Kubernetes of three nodes (root)"
	@echo "make setup   install what this machine lacks"

setup:
	@scripts/setup.sh

setup-build:
	@SETUP_WITHOUT_GO=1 scripts/setup.sh

# Every cargo call that compiles the store goes through here, so that RocksDB is compiled once; and each has --workspace, since
# what else is built decides which features the libraries have, and so what is compiled again.
CARGO = ROCKSDB_LIB_DIR="$$(scripts/rocksdb.sh)" ROCKSDB_STATIC=1 cargo

build: setup-build
	$(CARGO) build --release --locked --workspace --bin keelson --bin keelsonctl --bin keelson-operator
	@mkdir -p bin
	@for b in keelson keelsonctl keelson-operator; do \
	  if [ -f $(RELEASE)/$$b ]; then cp $(RELEASE)/$$b bin/.$$b.new && mv bin/.$$b.new bin/$$b; fi; done
	@ls -l bin

# What packs images, for the scripts beside the tests as well.
xtask: setup-build
	$(CARGO) build --release --locked --workspace --bin xtask

# The container image, without a container engine: bin/image.tar
image: build xtask
	$(RELEASE)/xtask image $(IMAGE_ARGS)

run: build
	@echo
	@echo "Serving on http://localhost:$(PORT), data in ./$(DATA). Ctrl-C stops it. In another terminal:"
	@echo "  bin/keelsonctl --endpoints localhost:$(PORT) put hello world"
	@echo "  bin/keelsonctl --endpoints localhost:$(PORT) get hello"
	@echo "  curl -s http://localhost:$(PORT)/health"
	@echo
	bin/keelson --data-dir $(DATA) --listen-client-urls http://127.0.0.1:$(PORT) --advertise-client-urls http://127.0.0.1:$(PORT)

peers: setup
	e2e/peers/build.sh

# What a whole node needs besides; about 12 minutes the first time.
node-peers: peers
	@scripts/setup-node.sh
	e2e/peers/build.sh node

NODES ?= 1
up: build xtask node-peers
	e2e/node/up.sh $(NODES)
	@e2e/node/example.sh

down:
	@e2e/node/down.sh

# Three nodes, so that members can be apart and a node can be lost, and first what `make up` does with one. Removed again,
# whatever happens.
e2e-node: build xtask node-peers
	$(CARGO) test --release --locked --workspace --test e2e --no-run
	e2e/node/up.sh 3
	@set -e; trap 'e2e/node/down.sh --keep-logs' EXIT; \
	e2e/node/example.sh; e2e/node/example.sh --remove; \
	$(CARGO) test --release --locked --workspace --test e2e -- node:: --include-ignored --test-threads=2 --nocapture

# Before anything is built: without these rights many tests cannot run.
rights:
	@why=$$(scripts/rights.sh); [ -z "$$why" ] || { echo "The tests cannot run here: $$why" >&2; exit 1; }

# Tests wait most of the time. So the operator's on a whole Kubernetes and those beside an apiserver alone run at once, and of
# the others more than there are processors.
TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: rights setup peers
	$(CARGO) build --release --locked --workspace
	$(CARGO) test --release --locked --workspace --no-run
	$(SIMULATE)
	@skip=$$(scripts/needs-root.sh) || exit 1; \
	scripts/at-once.sh "$(MAKE) --no-print-directory e2e-node-if-able" \
	  '$(CARGO) test --release --locked --workspace --test life -- --show-output '"$$skip"
	@skip=$$(scripts/needs-root.sh) || exit 1; \
	$(CARGO) test --release --locked --workspace --lib --bins --test e2e --no-fail-fast -- \
	  --test-threads=$(TEST_THREADS) --show-output $$skip

# The operator's tests on a whole Kubernetes, where there can be one.
e2e-node-if-able:
	@why=$$(e2e/node/able.sh); \
	if [ -z "$$why" ]; then $(MAKE) --no-print-directory e2e-node; \
	elif [ "$$CI" = true ]; then echo "The tests on a whole Kubernetes cannot run here: $$why" >&2; exit 1; \
	else echo "SKIPPED: the tests of the operator on a whole Kubernetes (make e2e-node): $$why"; fi

# A build of its own: in it the clock can stand still.
SIM_SECONDS ?= 60
SIMULATE = KEELSON_SIM_SECONDS=$(SIM_SECONDS) $(CARGO) test --release --locked -p keelson-consensus --features simulation simulation:: -- --nocapture
simulate: setup-build
	$(SIMULATE)

MINUTES ?= 60
chaos: setup peers
	$(CARGO) build --release --locked --workspace --bin keelson
	KEELSON_CHAOS_SECONDS=$$(($(MINUTES) * 60)) $(CARGO) test --release --locked --workspace --test e2e -- --nocapture \
	  everything_stays_linearizable_and_watched_under_every_fault

soak: export KEELSON_KILLS ?= 5000
soak: export KEELSON_POWER_CUTS ?= 2000
soak: export KEELSON_KUBE_KILLS ?= 40
soak: export KEELSON_KUBE_CHURN ?= 1200
soak: export KEELSON_CHAOS_SECONDS ?= 7200
soak: export KEELSON_FAILOVERS ?= 30
soak: export KEELSON_CROWD ?= 200
soak: export KEELSON_CROWD_SECONDS ?= 1800
soak: export KEELSON_API_SERVER_AWAY_SECONDS ?= 600
soak: SIM_SECONDS = 7200
soak: rights setup peers
	$(CARGO) build --release --locked --workspace
	@skip=$$(scripts/needs-root.sh) || exit 1; \
	$(CARGO) test --release --locked --workspace -- --include-ignored --show-output --skip on_a_node $$skip
	$(SIMULATE)
	$(MAKE) e2e-node-if-able

# Every target is a test in a module named fuzz. What libFuzzer finds lies in __fuzz__ beside the target.
FUZZ_CRATES ?= api mvcc state storage consensus snapshot server
SECONDS ?= 60
fuzz: setup-build
	@set -eu; export ROCKSDB_LIB_DIR="$$(scripts/rocksdb.sh)" ROCKSDB_STATIC=1; \
	for crate in $(FUZZ_CRATES); do \
	  for target in $$(cargo test --release --locked -q -p keelson-$$crate -- --list fuzz:: | sed -n 's/: test$$//p'); do \
	    echo "== $$crate $$target"; \
	    cargo bolero test -p keelson-$$crate $$target -s NONE -T $(SECONDS)s --target-dir $(CARGO_TARGET_DIR)/fuzz; \
	  done; done

bench: build peers
	$(CARGO) run --release --locked -p keelson-bench -- $(if $(QUICK),--quick) $(BENCH_ARGS)

verify:
	cargo fmt --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; \
	else echo "SKIPPED: the rules for dependencies in deny.toml: cargo-deny is missing (cargo install --locked cargo-deny)"; fi
