package api

import (
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// serviceRegistration is an instance as clients register it at their agent.
// Fields whose names have underscores are older spellings of those above.
type serviceRegistration struct {
	Kind              string
	ID                string
	Name              string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]catalog.ServiceAddress
	Meta              map[string]string
	Port              int
	SocketPath        string
	EnableTagOverride bool
	Weights           *catalog.Weights
	Check             *serviceCheck
	Checks            []serviceCheck
	Token             string
	Locality          *catalog.Locality
	Proxy             proxy
	Connect           struct {
		Native         bool
		SidecarService notNull
	}

	TaggedAddressesOld   map[string]catalog.ServiceAddress `json:"tagged_addresses"`
	EnableTagOverrideOld bool                              `json:"enable_tag_override"`
	SocketPathOld        string                            `json:"socket_path"`
}

// notNull keeps the text of a value that is there and not null.
type notNull []byte

// UnmarshalJSON keeps the text.
func (n *notNull) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*n = append((*n)[:0], b...)
	}
	return nil
}

func (s *serviceRegistration) registration() check.Registration {
	r := check.Registration{Token: s.Token, Service: catalog.Service{Kind: s.Kind, ID: s.ID, Name: s.Name, Tags: s.Tags,
		Address: s.Address, TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port,
		SocketPath:        either(s.SocketPath, s.SocketPathOld),
		EnableTagOverride: s.EnableTagOverride || s.EnableTagOverrideOld,
		Locality:          s.Locality, Proxy: s.Proxy, Native: s.Connect.Native}}
	if r.Service.TaggedAddresses == nil {
		r.Service.TaggedAddresses = s.TaggedAddressesOld
	}
	if s.Weights != nil {
		r.Service.Weights = *s.Weights
	}
	if s.Check != nil {
		r.Checks = append(r.Checks, s.Check.definition())
	}
	for i := range s.Checks {
		r.Checks = append(r.Checks, s.Checks[i].definition())
	}
	return r
}

// serviceCheck is a check that comes with an instance.
type serviceCheck struct {
	CheckID string
	checkFields
}

func (s *serviceCheck) definition() check.Definition {
	d := s.checkFields.definition()
	d.ID = s.CheckID
	return d
}

// checkRegistration is a check on its own.
type checkRegistration struct {
	ID           string
	ServiceID    string
	ServiceIDOld string `json:"service_id"`
	Token        string
	checkFields
}

func (r *checkRegistration) definition() check.Definition {
	d := r.checkFields.definition()
	d.ID, d.ServiceID, d.Token = r.ID, either(r.ServiceID, r.ServiceIDOld), r.Token
	return d
}

// checkFields are what all checks have that clients register at their agent.
type checkFields struct {
	Name   string
	Notes  string
	Status string

	ScriptArgs                     []string
	HTTP                           string
	Method                         string
	Header                         map[string][]string
	Body                           string
	DisableRedirects               bool
	H2PING                         string
	H2PingUseTLS                   *bool
	TCP                            string
	TCPUseTLS                      bool
	UDP                            string
	GRPC                           string
	GRPCUseTLS                     bool
	DockerContainerID              string
	Shell                          string
	OSService                      string
	AliasNode                      string
	AliasService                   string
	TTL                            duration
	Interval                       duration
	Timeout                        duration
	TLSServerName                  string
	TLSSkipVerify                  bool
	SuccessBeforePassing           int
	FailuresBeforeWarning          int
	FailuresBeforeCritical         int
	DeregisterCriticalServiceAfter duration
	OutputMaxSize                  int

	Args                              []string
	ScriptArgsOld                     []string `json:"script_args"`
	DisableRedirectsOld               bool     `json:"disable_redirects"`
	H2PingUseTLSOld                   *bool    `json:"h2ping_use_tls"`
	TCPUseTLSOld                      bool     `json:"tcp_use_tls"`
	GRPCUseTLSOld                     bool     `json:"grpc_use_tls"`
	DockerContainerIDOld              string   `json:"docker_container_id"`
	OSServiceOld                      string   `json:"os_service"`
	AliasNodeOld                      string   `json:"alias_node"`
	AliasServiceOld                   string   `json:"alias_service"`
	TLSServerNameOld                  string   `json:"tls_server_name"`
	TLSSkipVerifyOld                  bool     `json:"tls_skip_verify"`
	SuccessBeforePassingOld           int      `json:"success_before_passing"`
	FailuresBeforeWarningOld          int      `json:"failures_before_warning"`
	FailuresBeforeCriticalOld         int      `json:"failures_before_critical"`
	DeregisterCriticalServiceAfterOld duration `json:"deregister_critical_service_after"`
	OutputMaxSizeOld                  int      `json:"output_max_size"`
}

func (f *checkFields) definition() check.Definition {
	d := check.Definition{
		Name: f.Name, Notes: f.Notes, Status: health.Status(f.Status),
		ScriptArgs: f.scriptArgs(),
		HTTP:       f.HTTP, Method: f.Method, Header: f.Header, Body: f.Body,
		DisableRedirects: f.DisableRedirects || f.DisableRedirectsOld,
		TCP:              f.TCP, TCPUseTLS: f.TCPUseTLS || f.TCPUseTLSOld, UDP: f.UDP,
		GRPC: f.GRPC, GRPCUseTLS: f.GRPCUseTLS || f.GRPCUseTLSOld,
		H2PING: f.H2PING, H2PingUseTLS: f.h2PingUseTLS(),
		DockerContainerID: either(f.DockerContainerID, f.DockerContainerIDOld), Shell: f.Shell,
		OSService:     either(f.OSService, f.OSServiceOld),
		AliasNode:     either(f.AliasNode, f.AliasNodeOld),
		AliasService:  either(f.AliasService, f.AliasServiceOld),
		TTL:           time.Duration(f.TTL),
		Interval:      time.Duration(f.Interval),
		Timeout:       time.Duration(f.Timeout),
		TLSServerName: either(f.TLSServerName, f.TLSServerNameOld),
		TLSSkipVerify: f.TLSSkipVerify || f.TLSSkipVerifyOld,

		SuccessBeforePassing:   either(f.SuccessBeforePassing, f.SuccessBeforePassingOld),
		FailuresBeforeWarning:  either(f.FailuresBeforeWarning, f.FailuresBeforeWarningOld),
		FailuresBeforeCritical: either(f.FailuresBeforeCritical, f.FailuresBeforeCriticalOld),
		DeregisterCriticalServiceAfter: time.Duration(either(f.DeregisterCriticalServiceAfter,
			f.DeregisterCriticalServiceAfterOld)),
		OutputMaxSize: either(f.OutputMaxSize, f.OutputMaxSizeOld),
	}
	if d.FailuresBeforeWarning == 0 {
		d.FailuresBeforeWarning = d.FailuresBeforeCritical
	}
	return d
}

func (f *checkFields) scriptArgs() []string {
	for _, args := range [][]string{f.ScriptArgs, f.Args, f.ScriptArgsOld} {
		if len(args) > 0 {
			return args
		}
	}
	return nil
}

// h2PingUseTLS is true for a ping unless it says otherwise.
func (f *checkFields) h2PingUseTLS() bool {
	switch {
	case f.H2PingUseTLS != nil:
		return *f.H2PingUseTLS
	case f.H2PingUseTLSOld != nil:
		return *f.H2PingUseTLSOld
	}
	return f.H2PING != ""
}

// either is the first of two values that is set.
func either[T comparable](a, b T) T {
	var none T
	if a != none {
		return a
	}
	return b
}
