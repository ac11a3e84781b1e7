# Every target ends by itself: LIMIT_* are the longest times that they may take.
# Tools are run at a pinned version, so nothing needs to be installed but Go.

STATICCHECK    = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME      ?= 10s
BENCHTIME     ?= 1s
SOAKTIME      ?= 1h
TORTURETIME   ?= 5m
FAULTTIME     ?= 2h
CHAOSTIME     ?= 30m
FAILOVERS     ?= 20
LIMIT_BUILD    = 10m
LIMIT_LINT     = 10m
LIMIT_TEST     = 10m
LIMIT_RACE     = 15m
LIMIT_FUZZ     = 30m
LIMIT_BENCH    = 20m
LIMIT_TORTURE  = 20m
LIMIT_FAULTS   = 3h
LIMIT_CHAOS    = 3h
LIMIT_FAILOVER = 40m
LIMIT_SOAK     = 90m
LIMIT_E2E      = 10m
LIMIT_COMPAT   = 25m
LIMIT_DOCKER   = 15m

# GNU timeout stops what hangs outside of a test; "make TIMEOUT=" does without.
TIMEOUT ?= timeout $(1)

.PHONY: all build test race lint fuzz bench bench-cluster soak torture faults chaos failover e2e compat docker

all: build lint test

## build: the binary, static and without paths of this machine, as bin/muster
build:
	$(call TIMEOUT,$(LIMIT_BUILD)) env CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/muster ./cmd/muster

## test: every test
test:
	go test -timeout $(LIMIT_TEST) ./...

## race: every test that is quick, with the race detector
race:
	go test -race -short -timeout $(LIMIT_RACE) ./...

## lint: the form of the source, vet and staticcheck
lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change:" $$unformatted; exit 1; }
	$(call TIMEOUT,$(LIMIT_LINT)) go vet ./...
	$(call TIMEOUT,$(LIMIT_LINT)) go run $(STATICCHECK) ./...

## fuzz: every fuzz test for FUZZTIME each
fuzz:
	@$(call TIMEOUT,$(LIMIT_FUZZ)) sh -c 'for package in $$(go list ./...); do \
		for name in $$(go test -list "^Fuzz" $$package | grep "^Fuzz"); do \
			echo "$$package $$name"; \
			go test -run "^$$" -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done'

## bench: every benchmark, one at a time
bench:
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout $(LIMIT_BENCH) ./...

## bench-cluster: what reads and writes of several servers and a client agent cost, beside their ceilings
bench-cluster:
	go test -run '^$$' -bench 'OfThree|Cluster' -benchtime $(BENCHTIME) -timeout $(LIMIT_BENCH) ./agent ./agent/consensus ./cmd/muster

## torture: the binary under kills in the middle of writes, and clusters of it under all kinds
## of faults, checked that nothing acknowledged was lost; longer than that: make faults FAULTTIME=24h LIMIT_FAULTS=25h
torture: faults chaos
	go test -count=1 -run '^TestTorture' -timeout $(LIMIT_TORTURE) ./cmd/muster -torture=$(TORTURETIME)

faults:
	go test -count=1 -run '^TestFaults' -timeout $(LIMIT_FAULTS) -v ./cmd/muster -faults=$(FAULTTIME)

## chaos: clusters in one process and in network namespaces, whose network, disks and clocks fail
## at random; false alarms and elections without a cause are counted; CHAOSTIME is that of each
chaos:
	go test -count=1 -run '^Test(Chaos|Netns)' -timeout $(LIMIT_CHAOS) -v ./agent -chaos=$(CHAOSTIME)

## failover: how soon the loss of a server, or of a client agent, is made up for
failover:
	go test -count=1 -run '^TestFailover' -timeout $(LIMIT_FAILOVER) -v ./cmd/muster -failover=$(FAILOVERS)

## soak: an hour of every kind of request, after which heap and goroutines are what they were
soak:
	go test -count=1 -run '^TestSoak' -timeout $(LIMIT_SOAK) -v ./cmd/muster -soak=$(SOAKTIME)

## e2e: the binary from outside, and the commands of the README
e2e:
	go test -count=1 -run '^(TestE2E|TestREADME)' -timeout $(LIMIT_E2E) -v ./cmd/muster

## compat: recorded answers and the official client's own tests, for the names in .ci
compat:
	$(call TIMEOUT,$(LIMIT_COMPAT)) .ci/compat

## docker: the image, started once
docker:
	go test -count=1 -run '^TestDocker' -timeout $(LIMIT_DOCKER) -v ./cmd/muster
