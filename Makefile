# `make` alone prints what there is.
.DEFAULT_GOAL := help
GO ?= go
BIN := bin/parley
FUZZ_SECONDS ?= 10

.PHONY: help build test race fuzz vet check

help: ## print this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## compile every package
	$(GO) build ./...

test: ## every unit test
	$(GO) test ./...

race: ## every test again under the race detector
	$(GO) test -race ./...

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...

check: vet test ## what must pass before a commit
