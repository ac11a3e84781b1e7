package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// definitions makes registrations and checks of the records. A service that has
// the ID of an earlier one takes its place, and so does a check.
func (r *resolver) definitions() {
	services := value[[]record](r, "services")
	first := map[string]int{}
	var places []Pos
	for _, s := range services {
		reg, err := s.registration()
		if err != nil {
			r.errs.append(err)
			continue
		}
		r.out.Warnings = append(r.out.Warnings, s.effectless()...)
		if i, twice := first[reg.Service.ID]; twice {
			r.warn(s.pos, "service %q replaces the one with the same ID at %v", reg.Service.ID, places[i])
			r.out.Services[i], places[i] = *reg, s.pos
			continue
		}
		first[reg.Service.ID] = len(places)
		r.out.Services, places = append(r.out.Services, *reg), append(places, s.pos)
		r.unsafe(s.pos, reg.Service.Name)
	}
	r.nodeChecks()
}

// unsafe warns of a service that DNS cannot name.
func (r *resolver) unsafe(pos Pos, name string) {
	if !isLabel(name) {
		r.warn(pos, "service %q: the name is no label of a DNS name (at most %d letters, digits and -), so the service cannot be found in DNS", shorten(name), MaxLabel)
	}
}

func (r *resolver) nodeChecks() {
	first := map[string]int{}
	var places []Pos
	for _, s := range value[[]record](r, "checks") {
		d, err := s.check()
		if err == nil && d.ID == "" && d.Name == "" {
			err = positionError{s.pos, "check without id and name"}
		}
		if err != nil {
			r.errs.append(err)
			continue
		}
		d.Normalize()
		if d.Name == "" {
			d.Name = d.ID
		}
		if i, twice := first[d.ID]; twice {
			r.warn(s.pos, "check %q replaces the one with the same ID at %v", d.ID, places[i])
			r.out.Checks[i], places[i] = *d, s.pos
			continue
		}
		first[d.ID] = len(places)
		r.out.Checks, places = append(r.out.Checks, *d), append(places, s.pos)
	}
}

// ParseServices returns the services of a file with the syntax of the agent's
// files; its other keys must be known, and count for nothing. The format is by
// the name of the file.
func ParseServices(path string) ([]check.Registration, error) {
	format := formatOf(path)
	if format == "" {
		return nil, fmt.Errorf("%s: the name ends neither in .hcl nor in .json", filepath.Base(path))
	}
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read services: %w", err)
	}
	errs := &problems{}
	file := source(input{path, format, text}, errs)
	var services []check.Registration
	records, _ := file["services"].value.([]record)
	for _, s := range records {
		reg, err := s.registration()
		if err != nil {
			errs.append(err)
			continue
		}
		services = append(services, *reg)
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	return services, nil
}

// get returns a value of a record, or zero if it is not there.
func get[V any](s record, path string) V {
	if table.paths[path] == nil {
		panic("no such key: " + path)
	}
	v, _ := s.values[path].value.(V)
	return v
}

// registration makes a valid registration of the record of a service.
func (s record) registration() (*check.Registration, error) {
	reg := &check.Registration{Token: get[string](s, "service.token"), Service: catalog.Service{
		ID:                get[string](s, "service.id"),
		Name:              get[string](s, "service.name"),
		Kind:              get[string](s, "service.kind"),
		Tags:              get[[]string](s, "service.tags"),
		Address:           get[string](s, "service.address"),
		Port:              get[int](s, "service.port"),
		SocketPath:        get[string](s, "service.socket_path"),
		Meta:              get[map[string]string](s, "service.meta"),
		EnableTagOverride: get[bool](s, "service.enable_tag_override"),
		Native:            get[bool](s, "service.connect.native"),
		Weights:           s.weights(),
		TaggedAddresses:   s.taggedAddresses(),
	}}
	region, zone := get[string](s, "service.locality.region"), get[string](s, "service.locality.zone")
	if region != "" || zone != "" {
		reg.Service.Locality = &catalog.Locality{Region: region, Zone: zone}
	}
	if proxy := get[*node](s, "service.proxy"); proxy != nil {
		text, err := json.Marshal(proxy.plain())
		if err != nil {
			return nil, positionError{proxy.pos, fmt.Sprintf("service.proxy: %v", err)}
		}
		reg.Service.Proxy = text
	}
	if err := check.ValidateWeights(reg.Service.Weights); err != nil {
		return nil, s.wrong("service", reg.Service.Name, fmt.Errorf("weights: %w", err))
	}
	for _, c := range slices.Concat(get[[]record](s, "service.checks"), get[[]record](s, "service.check")) {
		d, err := c.check()
		if err != nil {
			return nil, err
		}
		reg.Checks = append(reg.Checks, *d)
	}
	if err := reg.Validate(); err != nil {
		return nil, s.wrong("service", reg.Service.Name, err)
	}
	reg.Normalize()
	if id := doubled(reg.Checks); id != "" {
		return nil, s.wrong("service", reg.Service.Name, fmt.Errorf("two checks have the ID %q", id))
	}
	return reg, nil
}

// doubled returns an ID that several checks have, or nothing.
func doubled(checks []check.Definition) string {
	seen := map[string]bool{}
	for _, c := range checks {
		if seen[c.ID] {
			return c.ID
		}
		seen[c.ID] = true
	}
	return ""
}

// wrong is an error about a record, at its place.
func (s record) wrong(what, name string, err error) error {
	return positionError{s.pos, fmt.Sprintf("%s %q: %v", what, shorten(name), err)}
}

// weights are one each unless the record says otherwise.
func (s record) weights() catalog.Weights {
	w := catalog.Weights{Passing: 1, Warning: 1}
	if v, ok := s.values["service.weights.passing"]; ok {
		w.Passing = v.value.(int)
	}
	if v, ok := s.values["service.weights.warning"]; ok {
		w.Warning = v.value.(int)
	}
	return w
}

func (s record) taggedAddresses() map[string]catalog.ServiceAddress {
	var out map[string]catalog.ServiceAddress
	for name, a := range get[map[string]record](s, "service.tagged_addresses") {
		if out == nil {
			out = map[string]catalog.ServiceAddress{}
		}
		out[name] = catalog.ServiceAddress{
			Address: get[string](a, "service.tagged_addresses.address"),
			Port:    get[int](a, "service.tagged_addresses.port"),
		}
	}
	return out
}

// effectless returns a warning for each key of a service without an effect.
func (s record) effectless() []string {
	var texts []string
	for _, path := range slices.Sorted(maps.Keys(s.values)) {
		v, key := s.values[path], table.paths[path].key
		if key.Support == Mesh && !v.inert(key) {
			note := key.Note
			if note == "" {
				note = "the service mesh is not supported"
			}
			texts = append(texts, fmt.Sprintf("%v: %s has no effect: %s", v.pos, v.written, note))
		}
	}
	return texts
}

// check makes a valid definition of the record of a check.
func (s record) check() (*check.Definition, error) {
	d := &check.Definition{
		ID:                             get[string](s, "check.id"),
		Name:                           get[string](s, "check.name"),
		Notes:                          get[string](s, "check.notes"),
		ServiceID:                      get[string](s, "check.service_id"),
		Status:                         health.Status(get[string](s, "check.status")),
		Token:                          get[string](s, "check.token"),
		ScriptArgs:                     get[[]string](s, "check.args"),
		HTTP:                           get[string](s, "check.http"),
		Method:                         get[string](s, "check.method"),
		Header:                         get[map[string][]string](s, "check.header"),
		Body:                           get[string](s, "check.body"),
		DisableRedirects:               get[bool](s, "check.disable_redirects"),
		TCP:                            get[string](s, "check.tcp"),
		TCPUseTLS:                      get[bool](s, "check.tcp_use_tls"),
		UDP:                            get[string](s, "check.udp"),
		GRPC:                           get[string](s, "check.grpc"),
		GRPCUseTLS:                     get[bool](s, "check.grpc_use_tls"),
		H2PING:                         get[string](s, "check.h2ping"),
		H2PingUseTLS:                   get[bool](s, "check.h2ping_use_tls"),
		DockerContainerID:              get[string](s, "check.docker_container_id"),
		Shell:                          get[string](s, "check.shell"),
		OSService:                      get[string](s, "check.os_service"),
		AliasNode:                      get[string](s, "check.alias_node"),
		AliasService:                   get[string](s, "check.alias_service"),
		TTL:                            get[time.Duration](s, "check.ttl"),
		Interval:                       get[time.Duration](s, "check.interval"),
		Timeout:                        get[time.Duration](s, "check.timeout"),
		TLSServerName:                  get[string](s, "check.tls_server_name"),
		TLSSkipVerify:                  get[bool](s, "check.tls_skip_verify"),
		SuccessBeforePassing:           get[int](s, "check.success_before_passing"),
		FailuresBeforeWarning:          get[int](s, "check.failures_before_warning"),
		FailuresBeforeCritical:         get[int](s, "check.failures_before_critical"),
		DeregisterCriticalServiceAfter: get[time.Duration](s, "check.deregister_critical_service_after"),
		OutputMaxSize:                  get[int](s, "check.output_max_size"),
	}
	if _, ok := s.values["check.h2ping_use_tls"]; !ok {
		d.H2PingUseTLS = d.H2PING != ""
	}
	if _, ok := s.values["check.failures_before_warning"]; !ok {
		d.FailuresBeforeWarning = d.FailuresBeforeCritical
	}
	name := d.ID
	if name == "" {
		name = d.Name
	}
	if err := d.Validate(); err != nil {
		return nil, s.wrong("check", name, err)
	}
	if kind := d.Kind(); !check.Supported(kind) {
		return nil, s.wrong("check", name, fmt.Errorf("kind %s is not supported yet; this agent runs http, tcp and ttl checks", kind))
	}
	switch d.Status {
	case "", health.Passing, health.Warning, health.Critical:
	default:
		return nil, s.wrong("check", name, fmt.Errorf("status must be passing, warning or critical, but is %q", shorten(strings.TrimSpace(string(d.Status)))))
	}
	return d, nil
}
