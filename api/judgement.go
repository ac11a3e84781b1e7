package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/muster-sd/muster/health"
)

// judgement is what an agent thinks of one of its instances.
type judgement struct {
	AggregatedStatus string
	Service          *agentServiceShape
	Checks           []*judgedCheck
}

// judgedCheck is a check as it stands beside a judgement: in the form that the
// public client library writes, which is not that of the other endpoints.
type judgedCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Definition  judgedDefinition
	ExposedPort int
	CreateIndex uint64
	ModifyIndex uint64
}

// judgedDefinition is always that of a check of which no more is told.
type judgedDefinition struct {
	HTTP                           string
	Header                         map[string][]string
	Method                         string
	Body                           string
	TLSServerName                  string
	TLSSkipVerify                  bool
	TCP                            string
	TCPUseTLS                      bool
	UDP                            string
	GRPC                           string
	OSService                      string
	GRPCUseTLS                     bool
	Interval                       string
	Timeout                        string
	DeregisterCriticalServiceAfter string
}

// maintenance is the judgement on what has been taken out of service.
const maintenance = "maintenance"

// judge gathers the checks that decide an instance's health: those of the node
// and its own.
func judge(s LocalService, checks []*health.Check, dc string) *judgement {
	out := &judgement{Service: newAgentService(s.Service, dc), Checks: []*judgedCheck{}}
	e := health.Entry{}
	inMaintenance := false
	for _, check := range checks {
		if check.ServiceID != "" && check.ServiceID != s.Service.ID {
			continue
		}
		e.Checks = append(e.Checks, check)
		out.Checks = append(out.Checks, newJudgedCheck(check))
		inMaintenance = inMaintenance || check.ID == health.NodeMaintenance ||
			strings.HasPrefix(check.ID, health.ServiceMaintenancePrefix)
	}
	out.AggregatedStatus = string(e.Worst())
	if inMaintenance {
		out.AggregatedStatus = maintenance
	}
	return out
}

func newJudgedCheck(c *health.Check) *judgedCheck {
	out := &judgedCheck{Node: c.Node, CheckID: c.ID, Name: c.Name, Status: string(c.Status), Notes: c.Notes, Output: c.Output,
		ServiceID: c.ServiceID, ServiceName: c.ServiceName, ExposedPort: c.ExposedPort,
		Definition: judgedDefinition{Interval: "0s", Timeout: "0s", DeregisterCriticalServiceAfter: "0s"}}
	if len(c.ServiceTags) > 0 {
		out.ServiceTags = c.ServiceTags
	}
	return out
}

// severity orders judgements from good to bad.
func severity(status string) int {
	return slices.Index([]string{string(health.Passing), string(health.Warning), string(health.Critical), maintenance}, status)
}

// judgementStatus is the status by which load balancers tell a judgement.
func judgementStatus(status string) int {
	switch status {
	case string(health.Passing):
		return http.StatusOK
	case string(health.Warning):
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// agentHealthByID judges one instance.
func agentHealthByID(c *call) (any, error) {
	if c.rest == "" {
		return nil, refuse(http.StatusInternalServerError, "Missing serviceID")
	}
	for _, s := range c.h.Local.Services() {
		if s.Service.ID == c.rest {
			j := judge(s, c.localChecks(), c.h.Config.Datacenter)
			return c.judged(judgementStatus(j.AggregatedStatus), j.AggregatedStatus, j), nil
		}
	}
	unknown := &judgement{AggregatedStatus: string(health.Critical)}
	return c.judged(http.StatusNotFound, "ServiceId "+c.rest+" not found", unknown), nil
}

// agentHealthByName judges all instances of a service here; the worst decides
// the status.
func agentHealthByName(c *call) (any, error) {
	if c.rest == "" {
		return nil, refuse(http.StatusInternalServerError, "Missing service Name")
	}
	checks := c.localChecks()
	all := []*judgement{}
	worst := string(health.Passing)
	for _, s := range c.h.Local.Services() {
		if s.Service.Name != c.rest {
			continue
		}
		j := judge(s, checks, c.h.Config.Datacenter)
		all = append(all, j)
		if severity(j.AggregatedStatus) > severity(worst) {
			worst = j.AggregatedStatus
		}
	}
	slices.SortFunc(all, func(a, b *judgement) int { return strings.Compare(a.Service.ID, b.Service.ID) })
	if len(all) == 0 {
		return c.judged(http.StatusNotFound, "ServiceName "+c.rest+" Not Found", all), nil
	}
	return c.judged(judgementStatus(worst), worst, all), nil
}

// localChecks are the checks of this agent by ID, those of the node first.
func (c *call) localChecks() []*health.Check {
	checks := slices.Clone(c.h.Local.Checks())
	slices.SortFunc(checks, func(a, b *health.Check) int {
		if node := a.ServiceID == ""; node != (b.ServiceID == "") {
			if node {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return checks
}

// judged answers with a judgement as JSON, or as its word alone if the client
// wants text.
func (c *call) judged(status int, reason string, value any) any {
	c.w.Header().Set("X-Consul-Reason", reason)
	if c.value("format") == "text" || strings.HasPrefix(c.r.Header.Get("Accept"), "text/plain") {
		return plain{status, []byte(reason)}
	}
	return judged{status, value}
}
