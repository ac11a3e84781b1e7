package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health/check"
)

// Config is a resolved configuration: every default filled in, every address
// template expanded, every value valid. It is never changed.
type Config struct {
	// Identity.
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	// NodeID is empty if the agent is to keep one in its data directory.
	NodeID string
	// HostNodeID derives the ID of a node that has none from the machine's, instead
	// of making a random one.
	HostNodeID      bool
	NodeMeta        map[string]string
	TaggedAddresses map[string]string
	Locality        *catalog.Locality

	// Mode.
	Dev             bool
	Server          bool
	Bootstrap       bool // one server that may elect itself
	BootstrapExpect int
	DataDir         string // empty only in dev mode
	PidFile         string
	// AutoReload asks for [Watch] on the files.
	AutoReload bool

	// Addresses. A port of zero or below is off.
	BindAddr         netip.Addr
	AdvertiseAddr    netip.Addr
	AdvertiseAddrWAN netip.Addr
	AdvertiseIPv4    netip.Addr // invalid if there is none
	AdvertiseIPv6    netip.Addr
	AdvertiseWANIPv4 netip.Addr
	AdvertiseWANIPv6 netip.Addr
	ClientAddrs      []string // as given, for the banner
	HTTPAddrs        []string // "host:port" or "unix:///path"
	DNSAddrs         []string // "host:port"
	Ports            Ports
	UnixSocketUser   string
	UnixSocketGroup  string
	UnixSocketMode   string

	// Joining. Entries with "provider=" are passed on as they stand.
	RetryJoin    []string
	RetryJoinWAN []string
	// RetryInterval is the time between attempts, RetryMax how many there may be;
	// zero is no limit.
	RetryInterval             time.Duration
	RetryMax                  int
	RejoinAfterLeave          bool
	ReconnectTimeout          time.Duration
	AdvertiseReconnectTimeout time.Duration // zero tells others nothing
	ServerRejoinAgeMax        time.Duration

	// Gossip.
	Encrypt               []byte // 16, 24 or 32 bytes, or nil
	EncryptVerifyIncoming bool
	EncryptVerifyOutgoing bool
	SerfLANAddr           netip.Addr     // where gossip listens
	SerfLANAllowed        []netip.Prefix // empty is everywhere
	GossipLAN             GossipTiming

	// Leaving.
	LeaveOnTerminate     bool
	SkipLeaveOnInterrupt bool

	// DNS.
	Domain    string // lower case, with a trailing dot
	AltDomain string
	DNS       DNS

	// HTTP.
	HTTPResponseHeaders              map[string]string
	HTTPBlockEndpoints               []string
	HTTPMaxHeaderBytes               int
	HTTPAllowWriteFrom               []netip.Prefix // empty is everywhere
	HTTPUseCache                     bool
	DiscoveryMaxStale                time.Duration // zero reads nothing stale by itself
	DisableHTTPUnprintableCharFilter bool
	DefaultQueryTime                 time.Duration
	MaxQueryTime                     time.Duration
	EnableDebug                      bool

	// Limits.
	KVMaxValueSize        int64
	TxnMaxReqLen          int64
	HTTPMaxConnsPerClient int
	RPCMaxConnsPerClient  int
	RPCHoldTimeout        time.Duration
	RPCHandshakeTimeout   time.Duration
	RPCClientTimeout      time.Duration
	// RPCRate is how many requests a second an agent that is no server may send to
	// servers, without end below zero, and RPCMaxBurst how many at once.
	RPCRate     float64
	RPCMaxBurst int
	// RequestLimitsMode is "disabled", "permissive" or "enforcing", and the rates
	// are how many requests a second a server takes, without end below zero.
	RequestLimitsMode string
	RequestReadRate   float64
	RequestWriteRate  float64
	LeaveDrainTime    time.Duration

	// Raft.
	RaftMultiplier        int
	RaftSnapshotThreshold int
	RaftSnapshotInterval  time.Duration
	RaftTrailingLogs      int
	RaftPreVoteDisabled   bool

	// Autopilot are the settings that a new cluster begins with.
	Autopilot Autopilot

	// Services and checks from files.
	Services            []check.Registration
	Checks              []check.Definition
	CheckOutputMaxSize  int
	CheckUpdateInterval time.Duration
	DiscardCheckOutput  bool
	EnableScriptChecks  bool // from any source
	EnableLocalScripts  bool // from files only

	// Logging.
	LogLevel slog.Level // Trace is below slog.LevelDebug: see agent/log.go
	LogJSON  bool
	// LogFile gets the log too; empty is none.
	LogFile           string
	LogRotateBytes    int64         // zero or below is no limit
	LogRotateDuration time.Duration // zero is no limit
	LogRotateMaxFiles int           // zero keeps all, below it none is kept
	Syslog            bool
	SyslogFacility    string // in capital letters

	// Sources.
	Files    []string // every file that was read, in order
	Warnings []string // one clear sentence each, for the log

	// settings is what all sources said, for comparing with a later one.
	settings File
}

// Place is where a key was set, as errors say it: a file with line and column, or a
// flag. It is empty if nobody set it.
func (c *Config) Place(path string) string {
	if s, ok := c.settings[path]; ok && s.pos.File != builtIn {
		return s.pos.String()
	}
	return ""
}

// GossipTiming are the settings of gossip_lan.
type GossipTiming struct {
	GossipInterval time.Duration
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	GossipNodes    int
	SuspicionMult  int
	RetransmitMult int
}

// Autopilot are the settings of autopilot, which count once: when a cluster
// has none of its own yet.
type Autopilot struct {
	CleanupDeadServers      bool
	LastContactThreshold    time.Duration
	MaxTrailingLogs         int
	MinQuorum               int
	ServerStabilizationTime time.Duration
}

// Ports are the ports of each protocol.
type Ports struct {
	DNS, HTTP, HTTPS, GRPC, GRPCTLS, Server, SerfLAN, SerfWAN int
}

// DNS are the settings of dns_config.
type DNS struct {
	AllowStale                  bool
	MaxStale                    time.Duration
	NodeTTL                     time.Duration
	ServiceTTL                  map[string]time.Duration
	EnableTruncate              bool
	OnlyPassing                 bool
	UDPAnswerLimit              int
	ARecordLimit                int
	DisableCompression          bool
	EnableAdditionalNodeMetaTXT bool
	SOA                         SOA
}

// SOA are the settings of dns_config.soa, in seconds (RFC 1035 §3.3.13).
type SOA struct {
	Refresh, Retry, Expire, MinTTL uint32
}
