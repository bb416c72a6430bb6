# What each target does is in its line behind ##; `make help` prints them.

GO ?= go
# Static binaries, and one compilation of all packages for binaries, tests and lint; the race detector needs another.
export CGO_ENABLED = 0
# For each test binary. Under the race detector, on two cores, the slowest needs some minutes.
TIMEOUT ?= 10m
# lint has the analyzers of go vet; and tables for debuggers take a quarter of the time of linking each test binary.
GOTEST = $(GO) test -vet=off -ldflags=-w -count=1 -timeout $(TIMEOUT)

# Every module with code. The first is the gateway's; the others have requirements of their own.
MODULES = . cmd/sluice-dtm sagaclient sagaclient/fromdtmcli sagaclient/participant bench/suite/interop deploy/packaging
# Pins the linter and govulncheck, and keeps their requirements out of every module above.
TOOLS = deploy/tools
LINTER = $(CURDIR)/bin/golangci-lint
VULNCHECK = $(CURDIR)/bin/govulncheck
SCRIPTS = .ci/run $(wildcard deploy/*.sh)

# $(call each,MODULES,COMMAND) runs the command in the folder of each module and stops at the first failure.
each = @set -e; for module in $(1); do echo "== module $$module"; (cd $$module && $(2)); done

.DEFAULT_GOAL = build
.PHONY: help build demo test computing waiting fmt reference tidy deps formatted lint modules interop interop-java \
	oracle allocations simulations packaging release reproducible sale examples suite cores

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1|/p' $(firstword $(MAKEFILE_LIST)) | \
		awk -F '|' '{printf "  make %-12s %s\n", $$1, $$2}'

# Their version comes from git; VERSION=v1.2.3 sets it where there is no git.
build: ## bin/sluice, bin/sluice-dtm, and bin/sluice-examples, the services behind deploy/examples
	$(GO) build $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') -o bin/sluice ./cmd/sluice
	cd cmd/sluice-dtm && $(GO) build -o ../../bin/sluice-dtm .
	$(GO) build -o bin/sluice-examples ./deploy/examples/services

demo: build ## build, then run everything on this machine; Ctrl-C ends it
	./bin/sluice demo

# Two rows of steps run side by side: one computes, and the other waits most of the time, for faults, leases and
# services. What a step prints comes when it has ended. -o build: it has been built by then. The last step compares
# memory and processor time, and has the machine to itself.
test: ## everything that CI runs
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory formatted
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory -j 2 -O -o build computing waiting
	@$(MAKE) --no-print-directory -o build allocations

# One step after the other, also under make -j.
computing:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -o build modules
	@$(MAKE) --no-print-directory -o build packaging
	@$(MAKE) --no-print-directory -o build simulations
	@$(MAKE) --no-print-directory -o build suite

waiting:
	@$(MAKE) --no-print-directory -o build sale
	@$(MAKE) --no-print-directory -o build interop
	@$(MAKE) --no-print-directory -o build examples

fmt: ## format the code
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

reference: ## write docs/configuration.md from the schema
	$(GO) run ./cmd/sluice schema --markdown > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

tidy: ## bring go.mod and go.sum of every module in line with its imports
	$(call each,$(MODULES) $(TOOLS),$(GO) mod tidy)

deps: ## install the servers and tools that tests and lint need
	@echo "== servers and tools"
	@deploy/testdeps.sh

formatted: ## fail where gofmt would change something
	@echo "== gofmt"
	@files="$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go'))"; \
	if [ -n "$$files" ]; then echo "not formatted, run make fmt:"; echo "$$files"; exit 1; fi

lint: $(LINTER) $(VULNCHECK) ## golangci-lint, go mod tidy and govulncheck over all modules, shellcheck over the scripts
	@echo "== golangci-lint, go mod tidy -diff, shellcheck, govulncheck"
	$(call each,$(MODULES) $(TOOLS),$(GO) mod tidy -diff)
	$(call each,$(MODULES),$(LINTER) run --config $(CURDIR)/.golangci.yml ./...)
	shellcheck $(SCRIPTS)
	@deploy/vulncheck.sh $(VULNCHECK) $(filter-out deploy/packaging,$(MODULES))

$(LINTER): $(TOOLS)/go.mod $(TOOLS)/go.sum
	cd $(TOOLS) && $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(VULNCHECK): $(TOOLS)/go.mod $(TOOLS)/go.sum
	cd $(TOOLS) && $(GO) build -o $@ golang.org/x/vuln/cmd/govulncheck

# The gateway's own module is tested by suite. Interop and packaging are left out: they need the built
# gateway.
modules: ## tests of the modules for services and for the coordinator
	$(call each,$(filter-out . bench/suite/interop deploy/packaging,$(MODULES)),$(GO) test -vet=off ./...)

interop: build ## tests of foreign clients and servers, through the gateway
	@echo "== module bench/suite/interop"
	cd bench/suite/interop && SLUICE=$(CURDIR)/bin/sluice SLUICE_DTM=$(CURDIR)/bin/sluice-dtm \
		$(GOTEST) ./...

packaging: build ## lint of units, image, manifests and chart; the configurations in them
	@echo "== module deploy/packaging"
	cd deploy/packaging && SLUICE=$(CURDIR)/bin/sluice $(GOTEST) ./...

# Neither is a step of test: they build everything for several platforms, or anew.
release: ## binaries for each platform, checksums and what they are made of, into dist; VERSION=v1.2.3
	deploy/release.sh "$(VERSION)" dist

reproducible: ## build the release for Linux twice, in two folders with two caches, and compare the sums
	deploy/release.sh --twice "$(or $(VERSION),v0.0.0)"

# Not a step of test: to build the other service takes most of a minute where nothing of it is built yet.
oracle: build ## the rate-limit service against envoyproxy/ratelimit: the same answers, at most half the processor time
	@echo "== module bench/suite/envoyratelimit"
	cd bench/suite/envoyratelimit && SLUICE=$(CURDIR)/bin/sluice $(GO) test -count=1 -timeout $(TIMEOUT) ./...

# The race detector allocates and takes time, so what these tests count and compare is only true without it. A package
# without such a test would be built for nothing.
allocations: build ## tests that count allocations and memory, without the race detector
	@echo "== allocations and memory, without the race detector"
	$(GOTEST) -run Alloc $$(grep -rl --include='*_test.go' '^func Test.*Alloc' filters gateway | \
		xargs -n 1 dirname | sort -u | sed 's|^|./|')
	$(GOTEST) -run TestBudget ./bench/suite/abuse
	SLUICE_BIN=$(CURDIR)/bin/sluice $(GOTEST) -run TestQuick ./bench/load/growth

# One goroutine with nothing to race against, so the race detector would only take its time.
simulations: ## the limiter's marks in simulated overload, mutants of transactions, without the race detector
	@echo "== simulations, without the race detector"
	$(GOTEST) ./bench/load/overload
	$(GOTEST) -run 'TestMutants|TestRepeats' ./gateway/transaction/simulation

# Not a step of test: it is a measurement. What it prints is told in bench/kit/cores/doc.go.
cores: ## how much more two processors do than one, for each table that requests share
	@for round in 1 2 3 4 5; do $(GO) test -run '^$$' -bench '^BenchmarkCores' -cpu 1,2 -benchtime 100ms -p 1 \
		$$($(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | \
			awk '/bench\/kit\/cores/ { print $$1 }'); done | awk -f bench/kit/cores/compare.awk

# Some seconds of a flash sale, with two controls. The race detector would make the gateways several times slower.
sale: build ## the flash sale in short: two gateways on one Redis, faults, an audit of the ledgers
	@echo "== flash sale"
	SLUICE_BIN=$(CURDIR)/bin/sluice SLUICE_DTM=$(CURDIR)/bin/sluice-dtm \
		$(GOTEST) -run TestShortSale ./bench/load/flashsale

# What deploy/examples says is run as it stands, then everything is killed in turn, once. Without the race detector: it
# would take most of the processor time. More rounds: bench/suite/examples/doc.go.
examples: build ## the examples as their headers say, and with each kind of process killed
	@echo "== examples"
	SLUICE_BIN=$(CURDIR)/bin/sluice SLUICE_DTM=$(CURDIR)/bin/sluice-dtm SLUICE_EXAMPLES=$(CURDIR)/bin/sluice-examples \
		$(GOTEST) ./bench/suite/examples

# Not a step of test: Java and Maven are not needed for anything else, and Maven downloads what the services use.
interop-java: build ## services in Java (Dubbo, Spring Cloud) as branches, each process killed; needs Java 17 and Maven
	@echo "== services in Java"
	@for program in java mvn; do command -v $$program >/dev/null || { \
		echo "interop-java: $$program is missing; deploy/testdeps.sh --java installs it" >&2; exit 1; }; done
	mvn -B -q -f deploy/examples/java/pom.xml package
	SLUICE_BIN=$(CURDIR)/bin/sluice SLUICE_DTM=$(CURDIR)/bin/sluice-dtm SLUICE_EXAMPLES=$(CURDIR)/bin/sluice-examples \
		$(GOTEST) -tags java -run TestJava ./bench/suite/examples

# The gateway that the tests start has the race detector too. It is built once: each test program would build its own.
suite: build ## unit and integration tests, with the race detector
	@echo "== unit and integration tests, with the race detector"
	CGO_ENABLED=1 $(GO) build -race -o bin/race/sluice ./cmd/sluice
	CGO_ENABLED=1 SLUICE_BIN=$(CURDIR)/bin/race/sluice SLUICE_DTM=$(CURDIR)/bin/sluice-dtm \
		SLUICE_EXAMPLES=$(CURDIR)/bin/sluice-examples \
		$(GOTEST) -race ./...
