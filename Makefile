# `make` alone prints what there is.
.DEFAULT_GOAL := help
GO ?= go
BIN := bin/parley
DATA ?= ./data
FUZZ_SECONDS ?= 10

CRASH_CYCLES ?= 50

.PHONY: help build run demo test hostile race fuzz crash bench vet check $(BIN)

help: ## print this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub(/:.*/, "", $$1); printf "  make %-8s %s\n", $$1, $$2}'

$(BIN):
	@$(GO) build -o $@ ./cmd/parley

build: $(BIN) ## build bin/parley and compile every package
	$(GO) build ./...

run: $(BIN) ## start a server with the users ada and bob, and say how to chat as each (DATA=./data)
	@$(BIN) serve --demo --data $(DATA)

demo: $(BIN) ## two clients talk, the server is killed with SIGKILL, and everything is still there
	@$(BIN) demo

test: ## every test but the longest
	$(GO) test -short ./...

hostile: ## what the internet does to a public server, against a server process
	$(GO) test ./bench/hostile

race: ## the tests of everything concurrent, whole, under the race detector
	$(GO) test -race ./wire/... ./storage/... ./raft/... ./engine/...

fuzz: ## every fuzz test, FUZZ_SECONDS each (10)
	@for package in $$($(GO) list ./...); do \
		for fuzz in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$fuzz"; \
			$(GO) test -run '^$$' -fuzz "^$$fuzz\$$" -fuzztime $(FUZZ_SECONDS)s $$package >fuzz.out 2>&1 || { cat fuzz.out; exit 1; }; \
		done; \
	done; rm -f fuzz.out

crash: $(BIN) ## kill a server under load CRASH_CYCLES times (50) and read everything back
	@$(BIN) bench crash --cycles $(CRASH_CYCLES)

bench: $(BIN) ## the first measures: direct, lone, wire, idle
	@for name in direct lone wire idle; do $(BIN) bench $$name || exit 1; done

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...

check: vet test ## what must pass before a commit
