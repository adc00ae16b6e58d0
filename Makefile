# `make` alone prints what there is.
.DEFAULT_GOAL := help
GO ?= go
BIN := bin/parley
DATA ?= ./data
FUZZ_SECONDS ?= 10

.PHONY: help build run demo test race fuzz vet check $(BIN)

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

test: ## every unit test
	$(GO) test ./...

race: ## every test again under the race detector
	$(GO) test -race ./...

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...

check: vet test ## what must pass before a commit
