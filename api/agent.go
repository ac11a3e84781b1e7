package api

import (
	"net/http"
	"slices"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// agentSelf describes the agent.
func agentSelf(c *call) (any, error) {
	self := c.h.Agent.Self()
	return map[string]any{
		"Config": map[string]any{
			"Datacenter":        self.Datacenter,
			"PrimaryDatacenter": self.PrimaryDatacenter,
			"NodeName":          self.NodeName,
			"NodeID":            self.NodeID,
			"Revision":          self.Revision,
			"Server":            self.Server,
			"Version":           self.Version,
			"BuildDate":         self.BuildDate,
		},
		// Clients compare all of Config, so what is Muster's own stands beside it.
		"Muster":      map[string]string{"Version": self.MusterVersion},
		"DebugConfig": self.Debug,
		"Coord":       originCoordinate,
		"Member":      newMember(self.Member),
		"Stats":       self.Stats,
		"Meta":        self.Meta,
	}, nil
}

// originCoordinate is where an agent stands that has measured no round trip:
// the origin of eight dimensions, with the full error (Dabek et al., Vivaldi,
// 2004).
var originCoordinate = struct {
	Vec        [8]float64
	Error      float64
	Adjustment float64
	Height     float64
}{Error: 1.5, Height: 1e-5}

// agentVersion tells what runs.
func agentVersion(c *call) (any, error) {
	self := c.h.Agent.Self()
	return struct{ SHA, BuildDate, HumanVersion, FIPS string }{SHA: self.Revision, BuildDate: self.BuildDate, HumanVersion: self.Version}, nil
}

// member is an agent as gossip sees it.
type member struct {
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

func newMember(m Member) *member {
	out := member(m)
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	return &out
}

// agentMembers lists the agents that gossip knows. With wan these are the
// servers, as other datacenters would know them.
func agentMembers(c *call) (any, error) {
	wan, segment := c.value("wan") != "", c.value("segment")
	switch {
	case wan && segment != "":
		return nil, badRequest(textWANSegment)
	case segment != "" && segment != "_all":
		return nil, refuse(http.StatusInternalServerError, textNoSegments)
	}
	keep, err := readFilter[member](c)
	if err != nil {
		return nil, err
	}
	members := c.h.Agent.Members
	if wan {
		members = c.h.Agent.MembersWAN
	}
	out := []*member{}
	for _, m := range members() {
		if shown := newMember(m); keep(shown) {
			out = append(out, shown)
		}
	}
	return out, nil
}

// agentChecks shows the checks registered here by ID.
func agentChecks(c *call) (any, error) {
	expression, err := c.parseFilter()
	if err != nil {
		return nil, err
	}
	keep, filterErr := compileFilter[healthCheck](expression)
	out := map[string]*healthCheck{}
	for _, check := range c.h.Local.Checks() {
		// Here alone, a name that checks do not have is only met with a check.
		if filterErr != nil {
			return nil, refuse(http.StatusInternalServerError, "%v", filterErr)
		}
		shown := newHealthCheck(check)
		shown.Definition, shown.CreateIndex, shown.ModifyIndex = checkDefinition{}, 0, 0
		if keep(shown) {
			out[shown.CheckID] = shown
		}
	}
	return out, nil
}

// registerCheck registers a check on its own.
func registerCheck(c *call) (any, error) {
	var body checkRegistration
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	d := body.definition()
	if d.Token == "" {
		d.Token = c.token()
	}
	if err := d.ValidateRequest(); err != nil {
		return nil, byAgent(err)
	}
	d.Normalize()
	return done(c.h.Local.AddCheck(c.r.Context(), d))
}

func deregisterCheck(c *call) (any, error) {
	return done(c.h.Local.RemoveCheck(c.r.Context(), c.rest))
}

func passCheck(c *call) (any, error) { return c.setTTL(health.Passing) }
func warnCheck(c *call) (any, error) { return c.setTTL(health.Warning) }
func failCheck(c *call) (any, error) { return c.setTTL(health.Critical) }

// setTTL takes the word of an instance on its own health.
func (c *call) setTTL(status health.Status) (any, error) {
	return done(c.h.Local.UpdateTTL(c.r.Context(), c.rest, status, c.value("note")))
}

// updateCheck does the same with status and output in the body.
func updateCheck(c *call) (any, error) {
	var body struct{ Status, Output string }
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	status := health.Status(body.Status)
	if !slices.Contains([]health.Status{health.Passing, health.Warning, health.Critical}, status) {
		return nil, badRequest("Invalid check status: '%s'", body.Status)
	}
	return done(c.h.Local.UpdateTTL(c.r.Context(), c.rest, status, body.Output))
}

// done is the empty answer of a change at the agent, or its error.
func done(err error) (any, error) {
	if err != nil {
		return nil, byAgent(err)
	}
	return empty{}, nil
}

// registerService registers an instance with its checks.
func registerService(c *call) (any, error) {
	var body serviceRegistration
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	if len(body.Connect.SidecarService) > 0 {
		return nil, badRequest("Connect.SidecarService is not supported: Muster has no service mesh")
	}
	r := body.registration()
	if r.Token == "" {
		r.Token = c.token()
	}
	if err := r.Validate(); err != nil {
		return nil, byAgent(err)
	}
	// Weights of nothing are the defaults only where there are no weights.
	if body.Weights != nil {
		if err := check.ValidateWeights(*body.Weights); err != nil {
			return nil, badRequest("Invalid Weights: %v", err)
		}
	}
	r.Normalize()
	replace, err := c.replaceChecks()
	if err != nil {
		return nil, err
	}
	return done(c.h.Local.AddService(c.r.Context(), r, replace))
}

// replaceChecks reads whether checks that are not named shall go.
func (c *call) replaceChecks() (bool, error) {
	const name = "replace-existing-checks"
	switch c.value(name) {
	case "":
		return c.has(name), nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, badRequest("Invalid value for %s: %q", name, c.value(name))
}

func deregisterService(c *call) (any, error) {
	return done(c.h.Local.RemoveService(c.r.Context(), c.rest))
}
