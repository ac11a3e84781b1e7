package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
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
	r.exposed()
	services := value[[]record](r, "services")
	newest := map[string]int{}
	var places []Pos
	ids, replaced := checkIDs{}, map[int]bool{}
	for _, s := range services {
		reg := s.registration(r.errs)
		if reg == nil {
			continue
		}
		r.out.Warnings = append(r.out.Warnings, s.effectless()...)
		id := reg.Service.ID
		if id == catalog.ServerService {
			r.errs.add(s.at("service.id", "service.name"), "service ID %q is reserved for the servers of the cluster", id)
		}
		if i, twice := newest[id]; twice {
			r.warn(s.pos, "service %q replaces the one with the same ID at %v", id, places[i])
			ids.forget(&r.out.Services[i])
			replaced[i] = true
		} else {
			r.unsafe(s.pos, reg.Service.Name)
		}
		r.reachable(s, &reg.Service)
		newest[id] = len(places)
		r.out.Services, places = append(r.out.Services, *reg), append(places, s.pos)
		for i, c := range s.checks() {
			r.runnable(c, &reg.Checks[i])
			r.newCheckID(ids, c, &reg.Checks[i])
		}
	}
	var last []check.Registration
	for i, reg := range r.out.Services {
		if !replaced[i] {
			last = append(last, reg)
		}
	}
	r.out.Services = last
	r.nodeChecks(ids, newest)
	r.mirrors(newest)
	if n := len(r.out.Services); n > MaxServices {
		r.errs.append(fmt.Errorf("%d services are more than the %d that one agent may have", n, MaxServices))
	}
	if n := len(ids); n > MaxChecks {
		r.errs.append(fmt.Errorf("%d checks are more than the %d that one agent may have", n, MaxChecks))
	}
}

// exposed warns of an agent on which everybody who reaches its HTTP may run
// programs.
func (r *resolver) exposed() {
	if r.out.EnableScriptChecks && len(r.out.HTTPAllowWriteFrom) == 0 {
		r.note("enable_script_checks", " = true without http_config.allow_write_http_from lets everybody who reaches HTTP run programs on this machine: enable_local_script_checks allows script checks from files only")
	}
}

// checkIDs is where checks stand, by ID.
type checkIDs map[string]checkPlace

// checkPlace is where a check stands, and the ID of its service.
type checkPlace struct {
	pos     Pos
	service string
}

// forget removes the checks of a service that is replaced.
func (ids checkIDs) forget(reg *check.Registration) {
	for _, d := range reg.Checks {
		if ids[d.ID].service == reg.Service.ID {
			delete(ids, d.ID)
		}
	}
}

// newCheckID warns of a check that takes the place of another. Those within one
// service were compared before.
func (r *resolver) newCheckID(ids checkIDs, s record, d *check.Definition) {
	if before, twice := ids[d.ID]; twice {
		r.warn(s.pos, "check %q replaces the one with the same ID at %v", d.ID, before.pos)
	}
	ids[d.ID] = checkPlace{s.pos, d.ServiceID}
}

// runnable checks whether this agent may carry out a check, and warns of parts
// of it that have no effect.
func (r *resolver) runnable(s record, d *check.Definition) {
	name := shorten(d.ID)
	if d.ID == health.SerfHealth || d.ID == health.NodeMaintenance || strings.HasPrefix(d.ID, health.ServiceMaintenancePrefix) {
		r.errs.add(s.at("check.id", "check.name"), "check ID %q is reserved", name)
	}
	if d.RunsCommand() && !r.out.EnableLocalScripts {
		r.errs.add(s.at("check.args"), "check %q: script checks are disabled: set enable_local_script_checks = true to allow those of files", name)
	}
	kind := d.Kind()
	if err := check.Available(kind); err != nil {
		r.errs.add(s.pos, "check %q: %v", name, err)
	}
	for _, of := range kindKeys {
		if v, ok := s.values[of.path]; ok && of.kind != kind && !v.inert(table.paths[of.path].key) && !of.part(kind) {
			r.warn(v.pos, "check %q: %s has no effect, because this is a check of kind %s", name, of.path, kind)
		}
	}
	if v, ok := s.values["check.interval"]; ok && d.Interval > 0 && d.Interval < check.MinInterval {
		r.warn(v.pos, "check %q: check.interval = %v is less than %v, so it runs every %v", name, d.Interval, check.MinInterval, check.MinInterval)
	}
	if v, ok := s.values["check.deregister_critical_service_after"]; ok && d.DeregisterCriticalServiceAfter > 0 && d.ServiceID == "" {
		r.warn(v.pos, "check %q: check.deregister_critical_service_after has no effect, because the check belongs to no service", name)
	} else if ok && d.DeregisterCriticalServiceAfter > 0 && d.DeregisterCriticalServiceAfter < check.MinDeregisterAfter {
		r.warn(v.pos, "check %q: check.deregister_critical_service_after = %v is less than %v, so the service is removed after %v", name, d.DeregisterCriticalServiceAfter, check.MinDeregisterAfter, check.MinDeregisterAfter)
	}
	if kind == check.TTL || kind == check.Alias {
		for _, path := range []string{"check.success_before_passing", "check.failures_before_warning", "check.failures_before_critical"} {
			if v, ok := s.values[path]; ok && v.value != 0 {
				r.warn(v.pos, "check %q: %s has no effect, because this is a check of kind %s", name, path, kind)
			}
		}
	}
	r.target(s, d)
}

// kindKeys are the keys that make a check one of a kind.
var kindKeys = []kindKey{
	{"check.ttl", check.TTL}, {"check.http", check.HTTP}, {"check.tcp", check.TCP}, {"check.udp", check.UDP}, {"check.grpc", check.GRPC},
	{"check.docker_container_id", check.Docker}, {"check.args", check.Script}, {"check.h2ping", check.H2Ping}, {"check.os_service", check.OSService},
}

// kindKey is a key and the kind that it asks for.
type kindKey struct{ path, kind string }

// part reports whether the key is needed for a check of another kind too.
func (k kindKey) part(kind string) bool { return k.path == "check.args" && kind == check.Docker }

// unsafe warns of a service that DNS cannot name.
func (r *resolver) unsafe(pos Pos, name string) {
	if !isLabel(name) {
		r.warn(pos, "service %q: the name is no label of a DNS name (at most %d letters, digits and -), so the service cannot be found in DNS", shorten(name), MaxLabel)
	}
}

// nodeChecks makes checks of the records that stand outside of services, given
// those in services and the IDs of all services.
func (r *resolver) nodeChecks(ids checkIDs, services map[string]int) {
	first := map[string]int{}
	for _, s := range value[[]record](r, "checks") {
		d, err := s.check("check without id and name")
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
		r.runnable(s, d)
		r.newCheckID(ids, s, d)
		if _, known := services[d.ServiceID]; d.ServiceID != "" && !known {
			r.warn(s.at("check.service_id"), "check %q: no service of this configuration has the ID %q, so a client must have registered it before the agent starts", shorten(d.ID), shorten(d.ServiceID))
		}
		if i, twice := first[d.ID]; twice {
			r.out.Checks[i] = *d
			continue
		}
		first[d.ID] = len(r.out.Checks)
		r.out.Checks = append(r.out.Checks, *d)
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
		if reg := s.registration(errs); reg != nil {
			services = append(services, *reg)
		}
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

// at returns where the first of some keys stands that the record has, or where
// the record does.
func (s record) at(paths ...string) Pos {
	for _, path := range paths {
		if v, ok := s.values[path]; ok {
			return v.pos
		}
	}
	return s.pos
}

// checks returns the records of the checks of a service, in their order.
func (s record) checks() []record {
	return slices.Concat(get[[]record](s, "service.checks"), get[[]record](s, "service.check"))
}

// registration makes a valid registration of the record of a service, or adds
// what is wrong with it to errs.
func (s record) registration(errs *problems) *check.Registration {
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
	fine := true
	fail := func(pos Pos, err error) {
		fine = false
		errs.add(pos, "service %q: %v", shorten(reg.Service.Name), err)
	}
	if proxy := get[*node](s, "service.proxy"); proxy != nil {
		text, err := json.Marshal(proxy.plain())
		if err != nil {
			fail(proxy.pos, fmt.Errorf("proxy: %w", err))
		}
		reg.Service.Proxy = text
	}
	if err := check.ValidateWeights(reg.Service.Weights); err != nil {
		fail(s.at("service.weights.passing", "service.weights.warning"), fmt.Errorf("weights: %w", err))
	}
	if pos, err := metaFault(s.values["service.meta"]); err != nil {
		fail(pos, fmt.Errorf("Invalid Service Meta: %w", err))
	}
	for i, c := range s.checks() {
		d, err := c.check(fmt.Sprintf("check %d of service %q", i+1, shorten(reg.Service.Name)))
		if err != nil {
			fine = false
			errs.append(err)
			continue
		}
		reg.Checks = append(reg.Checks, *d)
	}
	if !fine {
		return nil
	}
	if err := reg.Validate(); err != nil {
		fail(s.blamedOfService(*reg), err)
		return nil
	}
	reg.Normalize()
	if i := doubled(reg.Checks); i >= 0 {
		fail(s.checks()[i].at("check.id"), fmt.Errorf("two checks have the ID %q", shorten(reg.Checks[i].ID)))
		return nil
	}
	return reg
}

// doubled returns the place of a check with the ID of an earlier one, or -1.
func doubled(checks []check.Definition) int {
	seen := map[string]bool{}
	for i, c := range checks {
		if seen[c.ID] {
			return i
		}
		seen[c.ID] = true
	}
	return -1
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

// check makes a valid definition of the record of a check, which errors call by
// its ID or name, or else as the caller does.
func (s record) check(unnamed string) (*check.Definition, error) {
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
	name := unnamed
	if given := cmp.Or(d.ID, d.Name); given != "" {
		name = fmt.Sprintf("check %q", shorten(given))
	}
	fault := func(pos Pos, err error) error { return positionError{pos, fmt.Sprintf("%s: %v", name, err)} }
	if err := d.Validate(); err != nil {
		return nil, fault(s.blamed(d), fmt.Errorf("%w%s", err, missing(d)))
	}
	if kind := d.Kind(); !check.Supported(kind) {
		return nil, fault(s.pos, check.Unsupported(kind))
	}
	switch d.Status {
	case "", health.Passing, health.Warning, health.Critical:
	default:
		return nil, fault(s.at("check.status"), fmt.Errorf("status must be passing, warning or critical, but is %q", shorten(strings.TrimSpace(string(d.Status)))))
	}
	return d, nil
}

// missing says what a check lacks that has no interval, or is of no kind.
func missing(d *check.Definition) string {
	switch {
	case d.Interval > 0 && d.TTL > 0:
		return ""
	case d.TTL > 0 && d.Kind() != check.TTL && d.Kind() != check.Alias:
		return " (ttl has no place beside " + d.Kind() + ": this check runs by itself, and needs interval in its stead)"
	case d.Kind() == "" && d.DockerContainerID != "":
		return " (docker_container_id needs args: the command to run in the container)"
	case d.Kind() == "":
		return " (a check needs one of http, tcp, udp, grpc, h2ping, args, os_service, ttl, alias_service and alias_node)"
	case d.Kind() != check.Alias && d.Interval <= 0:
		return ` (add how often it runs, as in interval = "10s")`
	}
	return ""
}

// blamed returns where the key stands that makes a check invalid, or where the
// check does if it lacks one.
func (s record) blamed(d *check.Definition) Pos {
	alias := d.AliasNode != "" || d.AliasService != ""
	switch {
	case d.Interval > 0 && d.TTL > 0, alias && d.TTL > 0:
		return s.at("check.ttl")
	case alias:
		return s.at("check.alias_service", "check.alias_node")
	case d.Interval <= 0 && d.TTL <= 0:
		return s.pos
	case d.FailuresBeforeWarning > d.FailuresBeforeCritical:
		return s.at("check.failures_before_warning")
	}
	return s.pos
}

// blamedOfService is [record.blamed] for an instance, whose weights, metadata and
// checks were looked at before.
func (s record) blamedOfService(reg check.Registration) Pos {
	service := &reg.Service
	ip, err := netip.ParseAddr(service.Address)
	switch {
	case service.Name == "":
		return s.pos
	case err == nil && ip.IsUnspecified():
		return s.at("service.address")
	case service.SocketPath != "" && (service.Address != "" || service.Port != 0):
		return s.at("service.socket_path")
	case service.Locality != nil && service.Locality.Region == "":
		return s.at("service.locality.zone")
	}
	service.TaggedAddresses = nil
	if reg.ValidateService() == nil {
		return s.at("service.tagged_addresses")
	}
	return s.pos
}
