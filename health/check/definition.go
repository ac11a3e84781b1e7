package check

import (
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// Definition is a check as people write it, in a file or in a request to their
// agent. Which of the fields is set decides its kind.
type Definition struct {
	ID        string
	Name      string
	Notes     string
	ServiceID string
	// Status is the state before the first run; empty means critical.
	Status health.Status
	Token  string

	ScriptArgs        []string
	HTTP              string
	Method            string
	Header            map[string][]string
	Body              string
	DisableRedirects  bool
	TCP               string
	TCPUseTLS         bool
	UDP               string
	GRPC              string
	GRPCUseTLS        bool
	H2PING            string
	H2PingUseTLS      bool
	DockerContainerID string
	Shell             string
	OSService         string
	AliasNode         string
	AliasService      string
	TTL               time.Duration

	Interval      time.Duration
	Timeout       time.Duration
	TLSServerName string
	TLSSkipVerify bool

	SuccessBeforePassing   int
	FailuresBeforeWarning  int
	FailuresBeforeCritical int
	// DeregisterCriticalServiceAfter removes the instance after so long without a
	// break in critical state; zero means never.
	DeregisterCriticalServiceAfter time.Duration
	// OutputMaxSize bounds the output in bytes; zero means the agent's limit.
	OutputMaxSize int
}

// Registration is an instance with its checks, as people write it in a file or
// in a request to their agent.
type Registration struct {
	Service catalog.Service
	Checks  []Definition
	// Token is what the agent presents when it registers the instance.
	Token string
}
