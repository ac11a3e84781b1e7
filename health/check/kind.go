package check

// Kinds of checks, as they stand in the Type of a check.
const (
	GRPC        = "grpc"
	HTTP        = "http"
	TTL         = "ttl"
	TCP         = "tcp"
	UDP         = "udp"
	Alias       = "alias"
	Docker      = "docker"
	Script      = "script"
	H2Ping      = "h2ping"
	OSService   = "os_service"
	Maintenance = "maintenance"
)

// Kind returns the kind of the check. If fields of several kinds are set, the
// first of grpc, http, ttl, tcp, udp, alias, docker, script, h2ping and
// os_service counts. It is empty if no such field is set.
func (d *Definition) Kind() string {
	switch {
	case d.GRPC != "":
		return GRPC
	case d.HTTP != "":
		return HTTP
	case d.TTL > 0:
		return TTL
	case d.TCP != "":
		return TCP
	case d.UDP != "":
		return UDP
	case d.isAlias():
		return Alias
	case d.DockerContainerID != "" && len(d.ScriptArgs) > 0:
		return Docker
	case len(d.ScriptArgs) > 0:
		return Script
	case d.H2PING != "":
		return H2Ping
	case d.OSService != "":
		return OSService
	}
	return ""
}

// Supported reports whether this build can carry out checks of the kind.
// Whether this machine can is told by [Available].
func Supported(kind string) bool {
	switch kind {
	case GRPC, HTTP, TTL, TCP, UDP, Alias, Docker, Script, H2Ping, OSService:
		return true
	}
	return false
}

// Available reports why checks of the kind cannot be carried out on this
// machine, if they cannot, by an error of code [mvcc.Invalid].
func Available(kind string) error {
	switch {
	case !Supported(kind):
		return Unsupported(kind)
	case kind == OSService:
		return serviceManager()
	}
	return nil
}

// RunsCommand reports whether the check executes what its definition says, so
// that it needs the agent's leave.
func (d *Definition) RunsCommand() bool { return len(d.ScriptArgs) > 0 }

// isAlias reports whether the check mirrors the health of something else.
func (d *Definition) isAlias() bool { return d.AliasNode != "" || d.AliasService != "" }

// isPolled reports whether the check has to be run again and again.
func (d *Definition) isPolled() bool {
	return len(d.ScriptArgs) > 0 || d.HTTP != "" || d.TCP != "" || d.UDP != "" ||
		d.GRPC != "" || d.H2PING != "" || d.OSService != ""
}
