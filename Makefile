# `make` alone prints what there is.
.DEFAULT_GOAL := help
GO ?= go
BIN := bin/parley
DATA ?= ./data
FUZZ_SECONDS ?= 10

CRASH_CYCLES ?= 50
CHAOS_MINUTES ?= 3

.PHONY: help build run cluster demo test hostile race fuzz crash chaos bench sim vet check guide $(BIN)

help: ## print this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub(/:.*/, "", $$1); printf "  make %-8s %s\n", $$1, $$2}'

$(BIN):
	@$(GO) build -o $@ ./cmd/parley

build: $(BIN) ## build bin/parley and compile every package
	$(GO) build ./...

run: $(BIN) ## start a server with the users ada and bob, and say how to chat as each (DATA=./data)
	@$(BIN) serve --demo --data $(DATA)

CLUSTER ?= ./cluster

cluster: $(BIN) ## run three nodes with the users ada and bob, and say how to chat at each (CLUSTER=./cluster)
	@$(BIN) cluster --data $(CLUSTER)

demo: $(BIN) ## two clients talk, the server is killed with SIGKILL, and everything is still there
	@$(BIN) demo

test: ## every test but the longest
	$(GO) test -short -timeout 30m ./...

hostile: ## what the internet does to a public server, against a server process (bench/hostile/README.md)
	$(GO) test -timeout 30m ./bench/hostile

guide: ## every command of the operations guide, on a cluster of four nodes
	$(GO) test ./cmd/parley -run OperationsGuide

race: ## the tests of everything concurrent, whole, under the race detector
	$(GO) test -race -timeout 30m ./wire/... ./storage/... ./raft/... ./engine/...

fuzz: ## every fuzz test, FUZZ_SECONDS each (10)
	@GO="$(GO)" .ci/fuzz $(FUZZ_SECONDS)

crash: $(BIN) ## kill a server under load CRASH_CYCLES times (50) and read everything back
	@$(BIN) bench crash --cycles $(CRASH_CYCLES)

chaos: ## three server processes under faults for CHAOS_MINUTES (3), SEED=N repeats one; and what must be refused
	$(GO) test -v -timeout 60m ./bench/chaos -chaos.minutes $(CHAOS_MINUTES) $(if $(SEED),-chaos.seed $(SEED))

bench: $(BIN) ## the first measures: direct, lone, wire, idle
	@for name in direct lone wire idle; do $(BIN) bench $$name || exit 1; done

SEEDS ?= 200

sim: ## clusters in virtual time under faults: SEEDS runs (200), or the one of SEED=n again
	@cd bench/sim && SEEDS=$(SEEDS) SEED=$(SEED) $(GO) test -count=1 -timeout 0 -run '^TestSeeds$$'

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...

check: vet test ## what must pass before a commit
