package health

import (
	"time"

	"github.com/muster-sd/muster/catalog"
)

// Status is the state of a check. The catalog keeps any text that was
// registered; only the three below mean something.
type Status string

// States that decide an instance's health, from good to bad.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
)

// IDs and names of checks that the cluster itself makes.
const (
	// SerfHealth is the check that tells whether gossip holds a node for alive.
	SerfHealth     = "serfHealth"
	SerfHealthName = "Serf Health Status"
	SerfAlive      = "Agent alive and reachable"
	SerfFailed     = "Agent not live or unreachable"
	// NodeMaintenance is the check that takes a node out of service.
	NodeMaintenance = "_node_maintenance"
	// ServiceMaintenancePrefix comes before the ID of an instance in the check
	// that takes it out of service.
	ServiceMaintenancePrefix = "_service_maintenance:"
)

// Check is the state of a check of a node or, if ServiceID is set, of an
// instance on it. Checks that a table returned are shared: nobody may write to
// them.
type Check struct {
	// Node is the name of the node.
	Node string `codec:"Node"`
	// ID is unique on the node.
	ID     string `codec:"ID"`
	Name   string `codec:"Name"`
	Status Status `codec:"Status"`
	// Notes is a remark for people.
	Notes string `codec:"Notes"`
	// Output is what the last run said.
	Output    string `codec:"Output"`
	ServiceID string `codec:"ServiceID"`
	// ServiceName and ServiceTags are those of the instance when the check was
	// registered.
	ServiceName string   `codec:"ServiceName"`
	ServiceTags []string `codec:"ServiceTags"`
	// Type is how the check is run, as in "http"; empty if nobody runs it.
	Type string `codec:"Type"`
	// Interval and Timeout are durations as text, or empty.
	Interval    string     `codec:"Interval"`
	Timeout     string     `codec:"Timeout"`
	ExposedPort int        `codec:"ExposedPort"`
	Definition  Definition `codec:"Definition"`
	// CreateIndex and ModifyIndex are the Raft indexes of the first and the last
	// effective write.
	CreateIndex uint64 `codec:"CreateIndex"`
	ModifyIndex uint64 `codec:"ModifyIndex"`
}

// Definition is how a check in the catalog is meant to be run, for those who
// run checks of nodes without an agent.
type Definition struct {
	HTTP                           string              `codec:"HTTP"`
	TLSServerName                  string              `codec:"TLSServerName"`
	TLSSkipVerify                  bool                `codec:"TLSSkipVerify"`
	Header                         map[string][]string `codec:"Header"`
	Method                         string              `codec:"Method"`
	Body                           string              `codec:"Body"`
	DisableRedirects               bool                `codec:"DisableRedirects"`
	TCP                            string              `codec:"TCP"`
	TCPUseTLS                      bool                `codec:"TCPUseTLS"`
	UDP                            string              `codec:"UDP"`
	H2PING                         string              `codec:"H2PING"`
	H2PingUseTLS                   bool                `codec:"H2PingUseTLS"`
	OSService                      string              `codec:"OSService"`
	Interval                       time.Duration       `codec:"Interval"`
	Timeout                        time.Duration       `codec:"Timeout"`
	TTL                            time.Duration       `codec:"TTL"`
	DeregisterCriticalServiceAfter time.Duration       `codec:"DeregisterCriticalServiceAfter"`
	OutputMaxSize                  int                 `codec:"OutputMaxSize"`
	ScriptArgs                     []string            `codec:"ScriptArgs"`
	DockerContainerID              string              `codec:"DockerContainerID"`
	Shell                          string              `codec:"Shell"`
	GRPC                           string              `codec:"GRPC"`
	GRPCUseTLS                     bool                `codec:"GRPCUseTLS"`
	AliasNode                      string              `codec:"AliasNode"`
	AliasService                   string              `codec:"AliasService"`
	SessionName                    string              `codec:"SessionName"`
}

// Mark is an index row: the Raft index of the last change of what Name names.
type Mark struct {
	Name  string `codec:"Name"`
	Index uint64 `codec:"Index"`
}

// Entry is an instance with its node and with all checks that decide its
// health: those of the node first, then its own, each ordered by ID.
type Entry struct {
	Node    *catalog.Node    `codec:"Node"`
	Service *catalog.Service `codec:"Service"`
	Checks  []*Check         `codec:"Checks"`
}

// Worst is the worst status among the entry's checks: critical, else warning,
// else passing. A status that is none of the three counts for nothing.
func (e *Entry) Worst() Status {
	worst := Passing
	for _, c := range e.Checks {
		switch c.Status {
		case Critical:
			return Critical
		case Warning:
			worst = Warning
		}
	}
	return worst
}
