# make        builds bin/firn
# make demo   builds it and runs a function with an extension before your eyes
# make test   runs every check and every test
# make bench  prints the performance table

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
INIT    := internal/sandbox/linux/initbin/firn-init
SOURCES := $(shell find . -name '*.go' -not -path './bin/*') go.mod go.sum

.PHONY: all demo test bench clean
all: bin/firn

# firn-init is PID 1 of every sandbox: small, static, and carried inside firn.
# It begins at main.entry (rest_amd64.s), which lets it rest without a Go runtime.
ENTRY   := $(if $(filter amd64,$(shell $(GO) env GOARCH)),-E main.entry)

$(INIT): $(SOURCES) $(wildcard cmd/firn-init/*.s)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w $(ENTRY)' -o $@ ./cmd/firn-init

bin/firn: $(INIT) $(SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -X main.version=$(VERSION)' -o $@ ./cmd/firn

demo: bin/firn
	$(GO) run ./examples/demo bin/firn

test: bin/firn
	./test

bench: bin/firn
	$(GO) run ./bench

clean:
	rm -rf bin $(INIT)
