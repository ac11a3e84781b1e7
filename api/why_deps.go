package api

import (
	"context"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Why explains why instances are answered or are not, and how that came to be.
type Why interface {
	// WhyService explains the instances of a service. It may be waited for as a read
	// of the service's health may.
	WhyService(ctx context.Context, o mvcc.ReadOptions, service string) (*ServiceReasons, mvcc.Meta, error)
	// WhyInstance explains one instance on this agent's node, by its ID: as it is
	// registered here and as the catalog has it. It answers without the catalog if
	// that cannot be read. An error of code [mvcc.Unknown] means that neither knows
	// of it.
	WhyInstance(ctx context.Context, o mvcc.ReadOptions, id string) (*AgentReasons, mvcc.Meta, error)
}

// The types below are what clients read, as they stand. Empty lists are never
// nil.

// ServiceReasons explains the instances of a service.
type ServiceReasons struct {
	// Service is the name as the instances have it.
	Service    string
	Datacenter string
	// Agent is the node whose agent answered. Its configuration counts for what DNS
	// answers as configured, and OnlyPassing is the part that does.
	Agent       string
	OnlyPassing bool
	// Answering is how many instances DNS answers with as configured, Passing how
	// many ?passing does.
	Answering int
	Passing   int
	// Instances are ordered by node and ID.
	Instances []*InstanceReasons
	// Removed are instances that went, the last one first; RemovedCut is whether
	// there were more.
	Removed    []*RemovedReasons
	RemovedCut bool
	History    HistoryReach
}

// AgentReasons explains an instance of an agent.
type AgentReasons struct {
	// Agent, and OnlyPassing, are as in [ServiceReasons].
	Agent       string
	OnlyPassing bool
	ServiceID   string
	Service     string
	// Local is null if the instance is not registered at the agent.
	Local *LocalReasons
	// Catalog is the instance as the catalog has it, without Local; null if it does
	// not have it, or cannot be read. CatalogUnknown then says which, in words.
	Catalog        *InstanceReasons
	CatalogUnknown string `json:",omitempty"`
	// History is null if the catalog could not be read.
	History *HistoryReach
}

// HistoryReach says how far back the server that answered remembers.
type HistoryReach struct {
	// Begins is the index after which every change is known, and Time the time of
	// what was there then; null if nothing was.
	Begins uint64
	Time   *time.Time
	// Text says so in words.
	Text string
}

// InstanceReasons explains one instance.
type InstanceReasons struct {
	Node        string
	NodeID      string
	NodeAddress string
	ServiceID   string
	Service     string
	// Address is where the instance is reached: its own address, or its node's.
	Address string
	Port    int
	Tags    []string
	Weights catalog.Weights
	// DNS is what DNS does with it.
	DNS DNSVerdict
	// Passing is whether a read with ?passing shows it.
	Passing Verdict
	// Checks are all that count for it, those of the node first.
	Checks []*CheckReasons
	// Registered and Written are its first and its last effective write.
	Registered StepReasons
	Written    StepReasons
	// Removal is when it will be removed and by what, the soonest first.
	Removal []Removal
	// Changes are the last ones, newest first; ChangesCut is whether the history has
	// more.
	Changes    []*ChangeReasons
	ChangesCut bool
	// Local is what the agent that answered knows of it, if it is its own.
	Local *LocalReasons `json:",omitempty"`
}

// RemovedReasons explains an instance that is not there any more.
type RemovedReasons struct {
	Node       string
	ServiceID  string
	Address    string
	Port       int
	Registered StepReasons
	Changes    []*ChangeReasons
	ChangesCut bool
}

// DNSVerdict says what DNS does with an instance: with the default settings, and
// as the agent is configured.
type DNSVerdict struct {
	Default    Verdict
	Configured Verdict
	// Remark is what else bears on it, in words; empty for most.
	Remark string `json:",omitempty"`
}

// Verdict says whether an instance is answered.
type Verdict struct {
	Answered bool
	// Weight is its share among those that are. Weight zero comes after all others.
	Weight int
	// Checks are the IDs of those that are to blame, if it is not.
	Checks []string
}

// CheckReasons explains a check.
type CheckReasons struct {
	CheckID string
	Name    string
	// Scope is "node" or "service": whose check it is.
	Scope  string
	Status string
	Output string
	Notes  string `json:",omitempty"`
	Type   string `json:",omitempty"`
	// Interval and Timeout are as they were registered.
	Interval string `json:",omitempty"`
	Timeout  string `json:",omitempty"`
	// Turned is when it took its status, and Written its last effective write.
	Turned  StepReasons
	Written StepReasons
	// ReportedBy is the node of the agent that wrote it last; empty if the history
	// does not reach back to that.
	ReportedBy string
}

// StepReasons is when something was written, and by whom. What the history does
// not hold is missing, and Unknown says so in words.
type StepReasons struct {
	Index   uint64        `json:",omitempty"`
	Time    *time.Time    `json:",omitempty"`
	Origin  *ChangeOrigin `json:",omitempty"`
	Unknown string        `json:",omitempty"`
}

// ChangeOrigin says who asked for a change.
type ChangeOrigin struct {
	// Node is that of the agent that took the request.
	Node string
	// Address is the caller's; empty is the agent itself.
	Address string
	// Endpoint is what was called, or the duty of the agent that it did by itself.
	Endpoint string
}

// ChangeReasons is one change of an instance, of a check that counts for it, or
// of its node.
type ChangeReasons struct {
	Index  uint64
	Time   time.Time
	Origin ChangeOrigin
	// Kind is what happened, in a word or a few, as in "check turned".
	Kind string
	// CheckID, CheckName, Scope and Output are those of a check.
	CheckID   string `json:",omitempty"`
	CheckName string `json:",omitempty"`
	Scope     string `json:",omitempty"`
	Output    string `json:",omitempty"`
	Fields    []FieldReasons
}

// FieldReasons is a field as it was and as it is, in words; empty is none.
type FieldReasons struct {
	Field  string
	Before string
	After  string
}

// Removal says when an instance will be removed if nothing changes.
type Removal struct {
	// At is null if the time is not known.
	At *time.Time
	// Text says why, by whom, or why it is not known.
	Text string
}

// LocalReasons is what an agent knows of an instance of its own.
type LocalReasons struct {
	// FromFile is whether a file of its configuration defines it.
	FromFile bool
	// Synced is whether the catalog knows of it as it is here. Refused is whether
	// the catalog would not take it.
	Synced  bool
	Refused bool
	// Flaps is how often its checks turned within FlapWindow, all together.
	Flaps      int
	FlapWindow string
	Checks     []*LocalCheckReasons
}

// LocalCheckReasons is what an agent knows of a check. Times that there are none
// of, as of a run that has not been, are null.
type LocalCheckReasons struct {
	CheckID string
	Name    string
	Scope   string
	// Kind is how it is carried out, as in "http"; empty if nobody does.
	Kind   string
	Status string
	// Output is what it says now. The catalog is told at OutputDue if that waits
	// because only the output has changed.
	Output    string
	OutputDue *time.Time
	// Since is when the status changed last, or the check was registered, as this
	// process of the agent saw it, and Flaps how often it did within the flap
	// window.
	Since time.Time
	Flaps int
	// InitialStatus is what it has until its first run.
	InitialStatus string
	// Interval, Timeout and TTL are durations, or empty.
	Interval string `json:",omitempty"`
	Timeout  string `json:",omitempty"`
	TTL      string `json:",omitempty"`
	LastRun  *time.Time
	NextRun  *time.Time
	// How many runs in a row it takes to change the status, beyond the first.
	SuccessBeforePassing   int `json:",omitempty"`
	FailuresBeforeWarning  int `json:",omitempty"`
	FailuresBeforeCritical int `json:",omitempty"`
	// AliasNode and AliasService are what it mirrors.
	AliasNode    string `json:",omitempty"`
	AliasService string `json:",omitempty"`
	// RemoveAfter is how long the check may be critical before its instance is
	// removed, and RemoveAt when that will be.
	RemoveAfter string `json:",omitempty"`
	RemoveAt    *time.Time
	FromFile    bool
	Synced      bool
}
