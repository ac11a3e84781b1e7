package local

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// Where a persisted definition came from.
const (
	sourceRemote = "remote"
	sourceLocal  = "local"
)

// serviceRecord is the file of an instance. Its shape is that of Consul's data
// directory, so that an agent can take over another's.
type serviceRecord struct {
	Token                      string
	Service                    serviceJSON
	Source                     string
	LocallyRegisteredAsSidecar bool
}

// serviceJSON is an instance as node-services shows it.
type serviceJSON struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]catalog.ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int
	SocketPath        string `json:",omitempty"`
	Weights           catalog.Weights
	EnableTagOverride bool
	Locality          *catalog.Locality `json:",omitempty"`
	Proxy             json.RawMessage   `json:",omitempty"`
	Connect           connectJSON
}

type connectJSON struct {
	Native bool `json:",omitempty"`
}

// checkRecord is the file of a check.
type checkRecord struct {
	Check   checkJSON
	ChkType definitionJSON
	Token   string
	Source  string
}

// checkJSON is the part of a check that its definition does not have.
type checkJSON struct {
	Node        string
	CheckID     string
	Name        string
	Status      health.Status
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
}

// definitionJSON is how a check is run. Durations are in nanoseconds.
type definitionJSON struct {
	CheckID                        string
	Name                           string
	Status                         health.Status
	Notes                          string
	ScriptArgs                     []string
	HTTP                           string
	Header                         map[string][]string
	Method                         string
	Body                           string
	DisableRedirects               bool
	TCP                            string
	TCPUseTLS                      bool
	UDP                            string
	GRPC                           string
	GRPCUseTLS                     bool
	H2PING                         string
	H2PingUseTLS                   bool
	DockerContainerID              string
	Shell                          string
	OSService                      string
	AliasNode                      string
	AliasService                   string
	TLSServerName                  string
	TLSSkipVerify                  bool
	Interval                       span
	Timeout                        span
	TTL                            span
	SuccessBeforePassing           int
	FailuresBeforeWarning          int
	FailuresBeforeCritical         int
	DeregisterCriticalServiceAfter span
	OutputMaxSize                  int
}

// stateRecord is the file of what a TTL check last said, and until when it
// holds, in seconds of Unix time.
type stateRecord struct {
	CheckID string
	Output  string
	Status  health.Status
	Expires int64
}

// span is a duration that is written in nanoseconds, and read as text too.
type span time.Duration

// UnmarshalJSON reads a number of nanoseconds or a text such as "10s".
func (s *span) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		if text == "" {
			*s = 0
			return nil
		}
		d, err := time.ParseDuration(text)
		*s = span(d)
		return err
	}
	return json.Unmarshal(data, (*time.Duration)(s))
}

func newServiceRecord(s *catalog.Service, token string) serviceRecord {
	return serviceRecord{
		Token:  token,
		Source: sourceRemote,
		Service: serviceJSON{
			Kind: s.Kind, ID: s.ID, Service: s.Name, Tags: s.Tags, Address: s.Address,
			TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port, SocketPath: s.SocketPath,
			Weights: s.Weights, EnableTagOverride: s.EnableTagOverride, Locality: s.Locality,
			Proxy: s.Proxy, Connect: connectJSON{s.Native},
		},
	}
}

// registration is the record as it was registered, without checks.
func (r *serviceRecord) registration() check.Registration {
	s := &r.Service
	return check.Registration{Token: r.Token, Service: catalog.Service{
		Kind: s.Kind, ID: s.ID, Name: s.Service, Tags: s.Tags, Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port, SocketPath: s.SocketPath,
		Weights: s.Weights, EnableTagOverride: s.EnableTagOverride, Locality: s.Locality,
		Proxy: s.Proxy, Native: s.Connect.Native,
	}}
}

func newCheckRecord(row *health.Check, d *check.Definition) checkRecord {
	return checkRecord{
		Token:  d.Token,
		Source: sourceRemote,
		Check: checkJSON{
			Node: row.Node, CheckID: row.ID, Name: row.Name, Status: row.Status, Notes: row.Notes,
			Output: row.Output, ServiceID: row.ServiceID, ServiceName: row.ServiceName,
			ServiceTags: row.ServiceTags, Type: row.Type, Interval: row.Interval, Timeout: row.Timeout,
		},
		ChkType: definitionJSON{
			CheckID: d.ID, Name: d.Name, Status: d.Status, Notes: d.Notes, ScriptArgs: d.ScriptArgs,
			HTTP: d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, DisableRedirects: d.DisableRedirects,
			TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS,
			H2PING: d.H2PING, H2PingUseTLS: d.H2PingUseTLS, DockerContainerID: d.DockerContainerID,
			Shell: d.Shell, OSService: d.OSService, AliasNode: d.AliasNode, AliasService: d.AliasService,
			TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
			Interval: span(d.Interval), Timeout: span(d.Timeout), TTL: span(d.TTL),
			SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeWarning: d.FailuresBeforeWarning,
			FailuresBeforeCritical:         d.FailuresBeforeCritical,
			DeregisterCriticalServiceAfter: span(d.DeregisterCriticalServiceAfter),
			OutputMaxSize:                  d.OutputMaxSize,
		},
	}
}

// definition is the record as it was registered.
func (r *checkRecord) definition() check.Definition {
	c, d := &r.Check, &r.ChkType
	return check.Definition{
		ID: c.CheckID, Name: c.Name, Notes: c.Notes, ServiceID: c.ServiceID, Token: r.Token, Status: d.Status,
		ScriptArgs: d.ScriptArgs,
		HTTP:       d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, DisableRedirects: d.DisableRedirects,
		TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS,
		H2PING: d.H2PING, H2PingUseTLS: d.H2PingUseTLS, DockerContainerID: d.DockerContainerID,
		Shell: d.Shell, OSService: d.OSService, AliasNode: d.AliasNode, AliasService: d.AliasService,
		TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
		Interval: time.Duration(d.Interval), Timeout: time.Duration(d.Timeout), TTL: time.Duration(d.TTL),
		SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeWarning: d.FailuresBeforeWarning,
		FailuresBeforeCritical:         d.FailuresBeforeCritical,
		DeregisterCriticalServiceAfter: time.Duration(d.DeregisterCriticalServiceAfter),
		OutputMaxSize:                  d.OutputMaxSize,
	}
}

// decodeService reads the file of an instance.
func decodeService(content []byte) (*serviceRecord, error) {
	var r serviceRecord
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, err
	}
	if r.Service.ID == "" {
		return nil, fmt.Errorf("it has no service ID")
	}
	return &r, nil
}

// decodeCheck reads the file of a check.
func decodeCheck(content []byte) (*checkRecord, error) {
	var r checkRecord
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, err
	}
	if r.Check.CheckID == "" {
		return nil, fmt.Errorf("it has no check ID")
	}
	return &r, nil
}

// decodeState reads the file of a TTL check's state.
func decodeState(content []byte) (*stateRecord, error) {
	var r stateRecord
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, err
	}
	if r.CheckID == "" {
		return nil, fmt.Errorf("it has no check ID")
	}
	return &r, nil
}
