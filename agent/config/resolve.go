package config

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health/check"
)

// LevelTrace is the level of log_level "trace", below [slog.LevelDebug].
const LevelTrace = slog.LevelDebug - 4

// logLevels are the values of log_level, in lower case.
var logLevels = []string{"trace", "debug", "info", "warn", "error"}

// resolver makes a [Config] of all settings. It collects what is wrong instead
// of stopping at the first fault.
type resolver struct {
	in   File
	host host
	out  *Config
	errs *problems
	wan  netip.Addr // where gossip between datacenters is to listen
	// aliases are the checks that mirror services of this agent.
	aliases []alias
}

func (r *resolver) resolve() {
	r.renamed()
	r.supported()
	r.out.settings = r.in
	r.identity()
	r.mode()
	r.ports()
	r.addresses()
	r.sockets()
	r.joining()
	r.gossip()
	r.later()
	r.listeners()
	r.leaving()
	r.dns()
	r.http()
	r.limits()
	r.raft()
	r.checks()
	r.logging()
	r.definitions()
}

// given reports whether a key was set by somebody.
func (r *resolver) given(path string) bool {
	s, ok := r.in[path]
	return ok && s.pos.File != builtIn
}

func (r *resolver) text(path string) string { return value[string](r, path) }
func (r *resolver) yes(path string) bool    { return value[bool](r, path) }
func (r *resolver) number(path string) int  { return value[int](r, path) }
func (r *resolver) list(path string) []string {
	return value[[]string](r, path)
}
func (r *resolver) duration(path string) time.Duration { return value[time.Duration](r, path) }

// positive returns a duration that must not be zero.
func (r *resolver) positive(path string) time.Duration {
	d := r.duration(path)
	if d <= 0 {
		r.fail(path, " must be more than 0s")
	}
	return d
}

func (r *resolver) pairs(path string) map[string]string {
	return value[map[string]string](r, path)
}

// value returns the value of a key, or zero if nobody set it. The path must be
// one of the table.
func value[V any](r *resolver, path string) V {
	if table.paths[path] == nil {
		panic("no such key: " + path)
	}
	v, _ := r.in[path].value.(V)
	return v
}

// fail adds an error about a key, at the place that set it.
func (r *resolver) fail(path, format string, args ...any) {
	text := path + fmt.Sprintf(format, args...)
	if s, ok := r.in[path]; ok {
		r.errs.add(s.pos, "%s", text)
		return
	}
	r.errs.append(fmt.Errorf("%s", text))
}

// failElement adds an error about an element of a list.
func (r *resolver) failElement(path string, i int, format string, args ...any) {
	r.errs.add(r.in[path].element(i), "%s", path+fmt.Sprintf(format, args...))
}

func (r *resolver) warn(pos Pos, format string, args ...any) {
	r.out.Warnings = append(r.out.Warnings, pos.String()+": "+fmt.Sprintf(format, args...))
}

// note warns about a key, at the place that set it.
func (r *resolver) note(path, format string, args ...any) {
	text := path + fmt.Sprintf(format, args...)
	if s, ok := r.in[path]; ok {
		r.warn(s.pos, "%s", text)
		return
	}
	r.out.Warnings = append(r.out.Warnings, text)
}

func (r *resolver) identity() {
	c := r.out
	c.Datacenter = strings.ToLower(r.text("datacenter"))
	r.datacenter("datacenter", c.Datacenter)
	c.PrimaryDatacenter = c.Datacenter
	if name := strings.ToLower(r.text("primary_datacenter")); name != "" && name != c.Datacenter {
		c.PrimaryDatacenter = name
		r.datacenter("primary_datacenter", name)
		r.note("primary_datacenter", " = %q has no effect: other datacenters are not supported yet", name)
	}
	r.nodeName()
	if c.NodeID = strings.ToLower(r.text("node_id")); c.NodeID != "" && !isUUID(c.NodeID) {
		r.fail("node_id", " must be a UUID as in \"01234567-89ab-cdef-0123-456789abcdef\", but is %q", shorten(c.NodeID))
	}
	c.HostNodeID = !r.yes("disable_host_node_id")
	c.NodeMeta = r.pairs("node_meta")
	if pos, err := metaFault(r.in["node_meta"]); err != nil {
		r.errs.add(pos, "node_meta: %v", err)
	}
	c.TaggedAddresses = r.pairs("tagged_addresses")
	if region, zone := r.text("locality.region"), r.text("locality.zone"); region != "" || zone != "" {
		c.Locality = &catalog.Locality{Region: region, Zone: zone}
		if region == "" {
			r.fail("locality.zone", " = %q needs locality.region", zone)
		}
	}
}

// metaFault returns what is wrong with metadata, and where.
func metaFault(s setting) (Pos, error) {
	meta, _ := s.value.(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if err := check.ValidateMeta(map[string]string{key: meta[key]}); err != nil {
			return s.entry(key), err
		}
	}
	return s.pos, check.ValidateMeta(meta)
}

func (r *resolver) datacenter(path, name string) {
	switch {
	case name == "":
		r.fail(path, " must not be empty")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "":
		r.fail(path, " may have letters, digits, - and _ only, but is %q", shorten(name))
	case len(name) > MaxDatacenter:
		r.fail(path, " has %d bytes, %d are possible: %q", len(name), MaxDatacenter, shorten(name))
	case !isLabel(name):
		r.note(path, " = %q is no label of a DNS name, so it cannot be used in DNS", shorten(name))
	}
}

func (r *resolver) nodeName() {
	name := strings.TrimSpace(r.text("node_name"))
	if !r.given("node_name") {
		var err error
		if name, err = r.host.name(); err != nil {
			r.fail("node_name", " is not set, and the host's name cannot be found: %v", err)
			return
		}
		name = strings.TrimSpace(name)
	}
	switch {
	case name == "":
		r.fail("node_name", " must not be empty")
	case strings.ContainsRune(name, 0):
		r.fail("node_name", " must not have a zero byte")
	case len(name) > MaxNodeName:
		r.fail("node_name", " has %d bytes, %d are possible: %q", len(name), MaxNodeName, shorten(name))
	case !isLabel(name):
		r.note("node_name", " = %q is no label of a DNS name (at most %d letters, digits and -), so the node cannot be found in DNS", shorten(name), MaxLabel)
	}
	r.out.NodeName = name
}

func (r *resolver) mode() {
	c := r.out
	c.Server = r.yes("server")
	c.Bootstrap = r.yes("bootstrap")
	c.BootstrapExpect = r.number("bootstrap_expect")
	c.PidFile = r.text("pid_file")
	c.AutoReload = r.yes("auto_reload_config")
	switch expect := c.BootstrapExpect; {
	case expect > 0:
		r.expecting(expect)
	case c.Bootstrap && !c.Server && r.given("bootstrap"):
		r.fail("bootstrap", " = true needs server = true")
	case c.Bootstrap && r.given("bootstrap"):
		r.note("bootstrap", " = true lets this server elect itself: only one server of a datacenter may do so")
	case c.Server && !c.Bootstrap && !r.joins():
		r.note("server", " = true without bootstrap_expect and retry_join: unless this server was part of a cluster before, it waits until somebody joins it to one")
	}
	if c.Dev && !c.Server && !r.joins() {
		r.note("server", " = false with -dev, and no retry_join: this is a client agent, which answers little until it knows a server, by muster join; "+
			"without server = false it is a server of its own")
	}
	c.Bootstrap = c.Bootstrap && c.Server
	r.dataDir()
}

// expecting checks the number of servers to wait for before the first election.
func (r *resolver) expecting(expect int) {
	c := r.out
	switch {
	case c.Dev:
		r.fail("bootstrap_expect", " = %d cannot be used with -dev, where the server leads itself", expect)
	case c.Bootstrap:
		r.fail("bootstrap_expect", " = %d and bootstrap = true exclude each other", expect)
	case !c.Server:
		r.fail("bootstrap_expect", " = %d needs server = true", expect)
	case expect == 1:
		c.Bootstrap = true
		r.note("bootstrap_expect", " = 1 is the same as bootstrap = true: this server elects itself")
	case expect == 2:
		r.note("bootstrap_expect", " = 2 bears the failure of no server: with one of them gone, nothing can be written")
	case expect%2 == 0:
		r.note("bootstrap_expect", " = %d bears no more failures than %d servers do: take an odd number", expect, expect-1)
	}
}

func (r *resolver) dataDir() {
	dir := r.text("data_dir")
	if dir == "" {
		if !r.out.Dev {
			r.fail("data_dir", " must be set: the folder where the agent keeps its state, as in -data-dir=/var/lib/muster. To try it out without one, muster agent -dev keeps all in memory")
		}
		return
	}
	// The agent may run with another working folder than it was started in.
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	r.out.DataDir = dir
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		r.fail("data_dir", ": %s is not a folder", dir)
	}
}

func (r *resolver) leaving() {
	c := r.out
	c.LeaveOnTerminate, c.SkipLeaveOnInterrupt = !c.Server, c.Server
	if r.given("leave_on_terminate") {
		c.LeaveOnTerminate = r.yes("leave_on_terminate")
	}
	if r.given("skip_leave_on_interrupt") {
		c.SkipLeaveOnInterrupt = r.yes("skip_leave_on_interrupt")
	}
}

func (r *resolver) dns() {
	c := r.out
	c.Domain = r.domain("domain")
	c.AltDomain = r.domain("alt_domain")
	if r.text("domain") == "" || r.text("domain") == "." {
		r.fail("domain", " must not be empty")
	}
	c.DNS = DNS{
		AllowStale:                  r.yes("dns_config.allow_stale"),
		MaxStale:                    r.duration("dns_config.max_stale"),
		NodeTTL:                     r.duration("dns_config.node_ttl"),
		ServiceTTL:                  value[map[string]time.Duration](r, "dns_config.service_ttl"),
		EnableTruncate:              r.yes("dns_config.enable_truncate"),
		OnlyPassing:                 r.yes("dns_config.only_passing"),
		UDPAnswerLimit:              r.number("dns_config.udp_answer_limit"),
		ARecordLimit:                r.number("dns_config.a_record_limit"),
		DisableCompression:          r.yes("dns_config.disable_compression"),
		EnableAdditionalNodeMetaTXT: r.yes("dns_config.enable_additional_node_meta_txt"),
		SOA: SOA{
			Refresh: uint32(r.number("dns_config.soa.refresh")),
			Retry:   uint32(r.number("dns_config.soa.retry")),
			Expire:  uint32(r.number("dns_config.soa.expire")),
			MinTTL:  uint32(r.number("dns_config.soa.min_ttl")),
		},
	}
}

// domain returns a DNS domain in lower case and with a dot at its end.
func (r *resolver) domain(path string) string {
	name := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(r.text(path))), ".")
	if name == "" {
		return ""
	}
	if len(name) > MaxDomain {
		r.fail(path, " may have %d characters, but has %d", MaxDomain, len(name))
		return ""
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(strings.ReplaceAll(label, "_", "x")) {
			r.fail(path, " must be a DNS name, but is %q", shorten(name))
			return ""
		}
	}
	return name + "."
}

func (r *resolver) http() {
	c := r.out
	c.HTTPResponseHeaders = r.pairs("http_config.response_headers")
	for _, name := range slices.Sorted(maps.Keys(c.HTTPResponseHeaders)) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(c.HTTPResponseHeaders[name]) {
			r.warn(r.in["http_config.response_headers"].entry(name), "http_config.response_headers: %q = %q has no effect, because it is no header that HTTP can send", shorten(name), shorten(c.HTTPResponseHeaders[name]))
		}
	}
	c.HTTPBlockEndpoints = r.list("http_config.block_endpoints")
	c.HTTPMaxHeaderBytes = r.number("http_config.max_header_bytes")
	c.DisableHTTPUnprintableCharFilter = r.yes("disable_http_unprintable_char_filter")
	c.DefaultQueryTime = r.positive("default_query_time")
	c.MaxQueryTime = r.positive("max_query_time")
	c.EnableDebug = r.yes("enable_debug")
	c.HTTPUseCache = r.yes("http_config.use_cache")
	c.HTTPAllowWriteFrom = r.networks("http_config.allow_write_http_from")
	c.DiscoveryMaxStale = r.duration("discovery_max_stale")
}

// networks returns the networks of a list (RFC 4632 §3.1).
func (r *resolver) networks(path string) []netip.Prefix {
	var out []netip.Prefix
	for i, text := range r.list(path) {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			r.failElement(path, i, " must be networks as in \"10.0.0.0/8\", but one is %q", shorten(text))
			continue
		}
		if address := network.Addr(); address.Is4In6() {
			r.failElement(path, i, " must have IPv4 networks in their own form, but one is %q", shorten(text))
			continue
		}
		out = append(out, network.Masked())
	}
	return out
}

func (r *resolver) limits() {
	c := r.out
	c.KVMaxValueSize = int64(r.number("limits.kv_max_value_size"))
	c.TxnMaxReqLen = int64(r.number("limits.txn_max_req_len"))
	c.HTTPMaxConnsPerClient = r.number("limits.http_max_conns_per_client")
	if files, ok := r.host.openFiles(); ok && uint64(c.HTTPMaxConnsPerClient)+reservedFiles > files {
		r.fail("limits.http_max_conns_per_client", " = %d and %d more files for the agent itself are more than the %d that the process may have open",
			c.HTTPMaxConnsPerClient, reservedFiles, files)
	}
	c.RPCMaxConnsPerClient = r.number("limits.rpc_max_conns_per_client")
	c.RPCHoldTimeout = r.duration("performance.rpc_hold_timeout")
	c.LeaveDrainTime = r.duration("performance.leave_drain_time")
	if c.LeaveDrainTime > MaxDrain {
		r.note("performance.leave_drain_time", " = %v is cut to %v, beyond which a stop does not wait", c.LeaveDrainTime, MaxDrain)
		c.LeaveDrainTime = MaxDrain
	}
	c.RPCHandshakeTimeout = r.positive("limits.rpc_handshake_timeout")
	c.RPCClientTimeout = r.positive("limits.rpc_client_timeout")
	c.RPCRate, c.RPCMaxBurst = value[float64](r, "limits.rpc_rate"), r.number("limits.rpc_max_burst")
	c.RequestLimitsMode = r.text("limits.request_limits.mode")
	c.RequestReadRate = value[float64](r, "limits.request_limits.read_rate")
	c.RequestWriteRate = value[float64](r, "limits.request_limits.write_rate")
	if (c.RPCRate >= 0) && c.Server {
		r.note("limits.rpc_rate", " has no effect: it is for agents that are no servers")
	}
	if c.RequestLimitsMode != "disabled" && c.RequestLimitsMode != "" && !c.Server {
		r.note("limits.request_limits.mode", " has no effect: it is for servers")
	}
}

func (r *resolver) raft() {
	c := r.out
	if c.RaftMultiplier = r.number("performance.raft_multiplier"); c.RaftMultiplier == 0 {
		c.RaftMultiplier = defaultMultiplier
	}
	c.RaftSnapshotThreshold = r.number("raft_snapshot_threshold")
	c.RaftSnapshotInterval = r.duration("raft_snapshot_interval")
	c.RaftTrailingLogs = r.number("raft_trailing_logs")
	c.RaftPreVoteDisabled = r.yes("raft_prevote_disabled")
	c.Autopilot = Autopilot{
		CleanupDeadServers:      r.yes("autopilot.cleanup_dead_servers"),
		LastContactThreshold:    r.positive("autopilot.last_contact_threshold"),
		MaxTrailingLogs:         r.number("autopilot.max_trailing_logs"),
		MinQuorum:               r.number("autopilot.min_quorum"),
		ServerStabilizationTime: r.duration("autopilot.server_stabilization_time"),
	}
	if c.RaftSnapshotInterval < MinSnapshotInterval {
		r.fail("raft_snapshot_interval", " must be at least %v, but is %v", MinSnapshotInterval, c.RaftSnapshotInterval)
	}
}

func (r *resolver) checks() {
	c := r.out
	c.CheckOutputMaxSize = r.number("check_output_max_size")
	c.CheckUpdateInterval = r.duration("check_update_interval")
	c.DiscardCheckOutput = r.yes("discard_check_output")
	c.EnableScriptChecks = r.yes("enable_script_checks")
	c.EnableLocalScripts = c.EnableScriptChecks
	if r.given("enable_local_script_checks") {
		c.EnableLocalScripts = r.yes("enable_local_script_checks") || c.EnableScriptChecks
	}
}

func (r *resolver) logging() {
	c := r.out
	c.LogJSON = r.yes("log_json")
	r.logFiles()
	switch strings.ToLower(r.text("log_level")) {
	case "trace":
		c.LogLevel = LevelTrace
	case "debug":
		c.LogLevel = slog.LevelDebug
	case "info":
		c.LogLevel = slog.LevelInfo
	case "warn":
		c.LogLevel = slog.LevelWarn
	case "err", "error":
		c.LogLevel = slog.LevelError
	default:
		r.fail("log_level", " %s", oneOf(logLevels, r.text("log_level")))
	}
}

// logFileName is that of the log file if only its folder is given.
const logFileName = "consul.log"

// facilities are the values of syslog_facility, in capital letters.
var facilities = []string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

// logFiles says where else the log goes.
func (r *resolver) logFiles() {
	c := r.out
	c.LogRotateBytes = int64(r.number("log_rotate_bytes"))
	c.LogRotateDuration = r.duration("log_rotate_duration")
	c.LogRotateMaxFiles = r.number("log_rotate_max_files")
	c.Syslog = r.yes("enable_syslog")
	c.SyslogFacility = strings.ToUpper(r.text("syslog_facility"))
	if !slices.Contains(facilities, c.SyslogFacility) {
		r.fail("syslog_facility", " %s", oneOf(facilities, r.text("syslog_facility")))
	}
	path := r.text("log_file")
	if path == "" {
		return
	}
	folder := os.IsPathSeparator(path[len(path)-1])
	// The agent may run with another working folder than it was started in.
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	if folder {
		path = filepath.Join(path, logFileName)
	}
	c.LogFile = path
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		r.fail("log_file", " needs the folder %s, which is not there", filepath.Dir(path))
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		r.fail("log_file", ": %s is a folder: end it with a slash for a file in it", path)
	}
}

// sockets checks the mode of unix sockets.
func (r *resolver) sockets() {
	c := r.out
	c.UnixSocketUser = r.text("unix_sockets.user")
	c.UnixSocketGroup = r.text("unix_sockets.group")
	c.UnixSocketMode = r.text("unix_sockets.mode")
	if c.UnixSocketMode == "" {
		return
	}
	if mode, err := strconv.ParseUint(c.UnixSocketMode, 8, 32); err != nil || mode > 0o777 {
		r.fail("unix_sockets.mode", " must be an octal number as in \"0660\", but is %q", shorten(c.UnixSocketMode))
	}
}

// isLabel reports whether a name can be a label of a host name (RFC 1123 §2.1).
func isLabel(name string) bool {
	if name == "" || len(name) > MaxLabel || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// isUUID reports whether a text has the form of a UUID (RFC 9562 §4).
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (text[i] == '-') || !dash && strings.IndexByte("0123456789abcdef", text[i]) < 0 {
			return false
		}
	}
	return true
}
