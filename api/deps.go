package api

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Deps is what the interface is made of. Every field is needed, except those of
// Config and where it says otherwise.
type Deps struct {
	Config  Config
	Keys    Keys
	Catalog Catalog
	Health  Health
	Txn     Transactor
	Status  Status
	Local   Local
	Agent   Agent
	// Operator, Snapshots and Why may be missing: their endpoints then say so.
	Operator  Operator
	Snapshots Snapshots
	Why       Why
	// Telemetry is where requests are counted, and where the log is followed.
	Telemetry Telemetry
	Logger    *slog.Logger
}

// Config is what the interface is told by the agent's configuration.
type Config struct {
	// Datacenter and NodeName are the agent's own.
	Datacenter string
	NodeName   string
	// Pretty indents every JSON answer, as dev mode does.
	Pretty bool
	// MaxValueSize is the largest value of a key in bytes; zero means
	// [kv.DefaultMaxValueSize].
	MaxValueSize int64
	// MaxTxnSize is the largest body of a transaction in bytes, unless MaxValueSize
	// is larger; zero means 512 KiB.
	MaxTxnSize int64
	// DefaultQueryTime and MaxQueryTime are how long a blocking query waits if it
	// does not say, and at most; zero means 300 s and 600 s.
	DefaultQueryTime time.Duration
	MaxQueryTime     time.Duration
	// ResponseHeaders are added to every answer.
	ResponseHeaders map[string]string
	// BlockEndpoints are path prefixes that are answered with 403.
	BlockEndpoints []string
	// AllowWriteFrom are the networks from which requests may change something;
	// none means all. Requests over a Unix socket always may.
	AllowWriteFrom []netip.Prefix
	// UseCache honours ?cached.
	UseCache bool
	// DiscoveryMaxStale, if it is above zero, makes reads of catalog and health
	// that do not say how fresh they are to be stale ones, bounded by it.
	DiscoveryMaxStale time.Duration
	// AllowUnprintable switches off the refusal of unprintable characters in paths.
	AllowUnprintable bool
	// Debug serves /debug/pprof, until the handler is told otherwise.
	Debug bool
}

// Keys reads and changes key/value entries.
type Keys interface {
	Key(ctx context.Context, o mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error)
	List(ctx context.Context, o mvcc.ReadOptions, q *kv.List) ([]*kv.Entry, mvcc.Meta, error)
	Keys(ctx context.Context, o mvcc.ReadOptions, q *kv.Keys) ([]string, mvcc.Meta, error)
	// ApplyKey carries out one of the commands of package kv and reports whether
	// its precondition held.
	ApplyKey(ctx context.Context, cmd any) (bool, error)
}

// Catalog reads and changes nodes and instances.
type Catalog interface {
	Nodes(ctx context.Context, o mvcc.ReadOptions, q *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error)
	NodeServices(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error)
	Instances(ctx context.Context, o mvcc.ReadOptions, q *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error)
	Services(ctx context.Context, o mvcc.ReadOptions, q *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error)
	// Register validates and carries out a registration; dc may be empty.
	Register(ctx context.Context, dc string, r *health.Register) error
	Deregister(ctx context.Context, dc string, d *catalog.Deregister) error
}

// Health reads checks and what they mean for instances.
type Health interface {
	Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error)
	NodeChecks(ctx context.Context, o mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error)
	ServiceChecks(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error)
	StateChecks(ctx context.Context, o mvcc.ReadOptions, q *health.StateChecks) ([]*health.Check, mvcc.Meta, error)
}

// Transactor carries out transactions.
type Transactor interface {
	// Transact carries out a transaction, all or nothing, or reads one that changes
	// nothing. Operations that fail are no error: the outcome names them.
	Transact(ctx context.Context, o mvcc.ReadOptions, t *health.Transaction) (*health.Outcome, mvcc.Meta, error)
}

// Status tells who leads and who takes part, as addresses of server ports.
type Status interface {
	Leader(ctx context.Context, dc string) (string, error)
	Peers(ctx context.Context, dc string) ([]string, error)
	// Datacenters lists the known datacenters, the agent's own first.
	Datacenters(ctx context.Context) ([]string, error)
}

// Local is what is registered at this agent. Errors of code [mvcc.Unknown] mean
// that the ID is not known here; those of [mvcc.Invalid] that the definition
// cannot be accepted.
type Local interface {
	Services() []LocalService
	Checks() []*health.Check
	// WatchService returns one instance, or nil, and a channel that is closed when
	// its definition changes or it is removed.
	WatchService(id string) (*catalog.Service, <-chan struct{})
	// AddService registers an instance with its checks. With replace, checks of
	// the instance that r does not name are removed.
	AddService(ctx context.Context, r check.Registration, replace bool) error
	RemoveService(ctx context.Context, id string) error
	AddCheck(ctx context.Context, d check.Definition) error
	RemoveCheck(ctx context.Context, id string) error
	// UpdateTTL sets the status and output of a check of kind TTL.
	UpdateTTL(ctx context.Context, id string, status health.Status, output string) error
	// SetNodeMaintenance takes the node out of service or puts it back, and
	// SetServiceMaintenance one instance. To ask for what is so changes nothing.
	SetNodeMaintenance(ctx context.Context, on bool, reason string) error
	SetServiceMaintenance(ctx context.Context, id string, on bool, reason string) error
}

// LocalService is an instance that is registered at this agent. The service is
// shared: nobody may write to it.
type LocalService struct {
	Service *catalog.Service
}

// Agent tells about the agent itself, and does what is asked of it as a whole.
type Agent interface {
	Self() Self
	Members() []Member
	// MembersWAN lists the servers under the names and addresses by which other
	// datacenters would know them. A client agent knows none.
	MembersWAN() []Member
	Host() Host
	// Join makes the agent a member of the pool that an address belongs to, with a
	// port or without; wan means the pool of servers across datacenters. It returns
	// when the agent is one.
	Join(ctx context.Context, address string, wan bool) error
	// ForceLeave makes a member that failed one that left, and with prune forgets
	// it. An error of code [mvcc.Unknown] means that there is no member of that
	// name. One that is alive is left alone, without an error.
	ForceLeave(ctx context.Context, node string, wan, prune bool) error
	// Leave begins to take the agent out of service for good. It returns when the
	// others were told, or could not be, and does not wait for the end.
	Leave()
	// Reload reads the configuration again and takes over what may change, or
	// nothing if it fails.
	Reload(ctx context.Context) (ReloadReport, error)
}

// ReloadReport is what reading the configuration again led to: the keys whose
// values were taken over, and those that wait for a restart.
type ReloadReport struct {
	Applied []ReloadChange `json:",omitempty"`
	Restart []ReloadChange `json:",omitempty"`
	// More is how many changes of both kinds were left out.
	More int `json:",omitempty"`
}

// ReloadChange is a key whose value changed, and from what to what.
type ReloadChange struct{ Key, Text string }

// Telemetry measures, and tells what it measured and what is logged.
type Telemetry interface {
	// Request notes that a request was answered; path is that of the endpoint.
	Request(method, path string, took time.Duration)
	// Metrics are those of the last whole interval, or of the first one while it
	// lasts.
	Metrics() Metrics
	// FollowMetrics hands over those of each interval as it ends, until ctx ends
	// or give fails.
	FollowMetrics(ctx context.Context, give func(Metrics) error)
	// Monitor sends what is logged at a level or above it, a line at a time with
	// its line end, until ctx ends. Who does not keep up loses lines, and is sent
	// one that says how many.
	Monitor(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error)
}

// Self describes the agent.
type Self struct {
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	NodeID            string
	Server            bool
	// Version is the level of compatibility that clients look for; MusterVersion
	// is Muster's own.
	Version       string
	Revision      string
	BuildDate     string
	MusterVersion string
	// Meta is the node's metadata.
	Meta map[string]string
	// Debug is the running configuration by unstable names, without secrets.
	Debug map[string]any
	// Stats are groups of values for people.
	Stats  map[string]map[string]string
	Member Member
}

// Member is an agent as gossip sees it.
type Member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}
