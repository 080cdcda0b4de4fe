# Isthmus: everything a contributor runs. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOFLAGS += -trimpath -buildvcs=false
export GOFLAGS
LDFLAGS := -s -w -X main.version=$(VERSION)
KUBE_VERSION := v1.36.3
KUBE_PKG := k8s.io/component-base/version
KUBE_LDFLAGS := -s -w -X $(KUBE_PKG).gitVersion=$(KUBE_VERSION) -X $(KUBE_PKG).gitMajor=1 -X $(KUBE_PKG).gitMinor=36 -X $(KUBE_PKG).gitTreeState=clean
PROGRAMS := isthmus isthmusd isthmus-proxy isthmus-samples isthmus-sandboxd
TEST ?= ./...
RUN ?=

# to stderr: what a command prints as JSON is alone on stdout
say = @printf '\033[1m== %s\033[0m\n' "$(1)" >&2

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## two clusters, linked; an export; failover under load; a verdict
	@bin/isthmus demo $(DEMO_FLAGS)

.PHONY: test
test: build ## all tests but end to end, with the race detector
	$(call say,tests with the race detector)
	go test -race -timeout 20m $(if $(RUN),-run '$(RUN)') $(TEST)
	$(call say,tests of the nested module sandbox/kube)
	cd sandbox/kube && CGO_ENABLED=0 go test -timeout 10m ./...
	$(call say,tests of the nested module kind)
	cd kind && CGO_ENABLED=0 go test -timeout 10m ./...

.PHONY: e2e-sandbox
e2e-sandbox: build ## end-to-end tests on the sandbox (three real clusters); RUN=REGEXP for some
	@RUN='$(RUN)' TOPOLOGY='$(GIVEN_TOPOLOGY)' scripts/e2e.sh sandbox

# make e2e TOPOLOGY="NAME NAME"; the default of kind-up, one, is not this target's
GIVEN_TOPOLOGY := $(if $(filter-out undefined file,$(origin TOPOLOGY)),$(TOPOLOGY))

.PHONY: e2e
ifeq ($(GIVEN_TOPOLOGY),sandbox)
e2e: GIVEN_TOPOLOGY :=
e2e: e2e-sandbox
else
e2e: deps images ## end-to-end tests on kind, from nothing: TOPOLOGY="multi-primary primary-remote" unless given; all: all; sandbox: the sandbox
	@RUN='$(RUN)' scripts/e2e.sh $(or $(GIVEN_TOPOLOGY),multi-primary primary-remote)
endif

.PHONY: conformance
conformance: ## specs of the MCS API on two clusters of one network; NETWORKS=separate on two; SUITE=FILE runs upstream's own test program
	scripts/conformance.sh

.PHONY: bench
bench: ## benchmarks, 5,000 exports over 50 clusters among them; BENCH_SCALE=small for few; never fails on time
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 30m $$(grep -rl '^func Benchmark' --include='*_test.go' . | xargs -n1 dirname | sort -u)

.PHONY: build
build: deps bin/isthmus-kube bin/isthmus-coredns programs ## all programs into bin/

.PHONY: programs
programs:
	@mkdir -p bin
	@for p in $(PROGRAMS); do printf '== build %s\n' $$p >&2; CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o bin/$$p ./cmd/$$p; done

# Kubernetes itself: about 5 minutes on two cores when nothing is cached.
bin/isthmus-kube: $(shell find sandbox/kube -name '*.go' -not -name '*_test.go') sandbox/kube/go.mod sandbox/kube/go.sum
	$(call say,build Kubernetes for the sandbox (minutes the first time, then cached))
	@mkdir -p bin
	cd sandbox/kube && CGO_ENABLED=0 go build -ldflags '$(KUBE_LDFLAGS)' -o ../../bin/.isthmus-kube .
	@mv bin/.isthmus-kube bin/isthmus-kube

bin/isthmus-coredns: $(wildcard sandbox/coredns/*.go) sandbox/coredns/go.mod sandbox/coredns/go.sum
	$(call say,build CoreDNS for the sandbox)
	@mkdir -p bin
	cd sandbox/coredns && CGO_ENABLED=0 go build -ldflags '-s -w' -o ../../bin/.isthmus-coredns .
	@mv bin/.isthmus-coredns bin/isthmus-coredns

TOPOLOGY ?= multi-primary
KIND = bin/isthmus-kind --topology $(TOPOLOGY)

.PHONY: kind-up
kind-up: images ## real clusters by kind, TOPOLOGY=NAME of kind-configs/; installs Docker and builds a node image where needed
	$(call say,topology $(TOPOLOGY) on kind)
	$(KIND) up

.PHONY: kind-down
kind-down: bin/isthmus-kind ## delete TOPOLOGY's clusters and stop the engine that kind-up started; PURGE=1: what was built for them, too
	$(KIND) down $(if $(PURGE),--purge)

.PHONY: images
images: programs bin/isthmus-kind ## an image from scratch and an SBOM of each program, into bin/images/
	$(call say,images)
	bin/isthmus-kind images

bin/isthmus-kind: $(shell find kind -name '*.go' -not -name '*_test.go' -not -path 'kind/stock/*') kind/go.mod kind/go.sum $(wildcard kind/nodeimage/files/*)
	@mkdir -p bin
	cd kind && CGO_ENABLED=0 go build -ldflags '-s -w' -o ../bin/isthmus-kind ./cmd/isthmus-kind

.PHONY: deps
deps: ## what the host must have: the nft program (kube-proxy runs it) and a C compiler for the race detector
	@scripts/deps.sh

.PHONY: generate
generate: ## deep copies, CRDs and protobuf from their sources
	scripts/generate.sh

.PHONY: golden
golden: ## rewrite golden files; review the diff
	UPDATE=1 go test ./drill/report/... ./eastwest/... ./federation/... ./primary/...

.PHONY: lint
lint: ## vet and formatting; golangci-lint too where it is installed
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	CGO_ENABLED=0 go vet ./...
	CGO_ENABLED=0 go vet -tags e2e ./e2e/...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo 'golangci-lint is not installed: only vet and gofmt ran'; fi

.PHONY: clean
clean: ## stop the sandbox and remove what was built
	-@test ! -x bin/isthmus || bin/isthmus sandbox down
	rm -rf bin
