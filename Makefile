# make build   bin/sluice and bin/sluice-dtm
# make demo    build, then run everything on this machine; Ctrl-C ends it
# make test    everything that CI runs
# make fmt     format the code

GO ?= go
# On two cores the suite under the race detector takes some minutes; a package that hangs is ended long before CI gives up.
TIMEOUT ?= 10m

.PHONY: build demo test fmt deps formatted lint suite allocations modules interop

# Static binaries. They take their version from git; VERSION=v1.2.3 says it where there is no git.
build: export CGO_ENABLED = 0
build:
	$(GO) build $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') -o bin/sluice ./cmd/sluice
	cd cmd/sluice-dtm && $(GO) build -o ../../bin/sluice-dtm .

demo: build
	./bin/sluice demo

fmt:
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

# One after the other, also under make -j: they share two cores, and the output stays readable.
test:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory formatted
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory modules
	@$(MAKE) --no-print-directory interop
	@$(MAKE) --no-print-directory allocations
	@$(MAKE) --no-print-directory suite

deps:
	@echo "== servers and tools"
	@deploy/testdeps.sh

formatted:
	@echo "== gofmt"
	@files="$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go'))"; \
	if [ -n "$$files" ]; then echo "not formatted, run make fmt:"; echo "$$files"; exit 1; fi

lint:
	@echo "== go vet, staticcheck"
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Modules with dependencies of their own. That of the interop tests is not here: it runs on the built gateway.
MODULES = cmd/sluice-dtm sagaclient/participant

modules:
	@set -e; for module in $(MODULES); do \
		echo "== module $$module"; \
		(cd $$module && $(GO) vet ./... && $(GO) test -timeout $(TIMEOUT) ./...); \
	done

interop:
	@echo "== clients and servers of others, through the gateway"
	cd bench/suite/interop && $(GO) vet ./... && SLUICE=$(CURDIR)/bin/sluice $(GO) test -count=1 -timeout $(TIMEOUT) ./...

# The race detector allocates by itself, so what tests count with AllocsPerRun is only true without it.
allocations:
	@echo "== allocations, without the race detector"
	$(GO) test -count=1 -run Alloc ./filters/... ./gateway/...

# The integration tests build a gateway of their own that has the race detector too.
suite:
	@echo "== unit and integration tests, with the race detector"
	CGO_ENABLED=1 SLUICE_DTM=$(CURDIR)/bin/sluice-dtm \
		$(GO) test -race -count=1 -timeout $(TIMEOUT) ./...
