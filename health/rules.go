package health

import (
	"fmt"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Normalize fills in what a registration leaves out and refuses one that makes
// no sense, with the texts that clients know (Consul API documentation, page
// "Catalog", register entity). Whether the instance of a check exists is only
// known when the command is applied.
func (r *Register) Normalize() error {
	if err := r.Registration.Normalize(); err != nil {
		return err
	}
	for i := range r.Checks {
		if err := r.Checks[i].normalize(r.Node.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *Check) normalize(node string) error {
	if c.ID == "" {
		c.ID = c.Name
	}
	if c.Node == "" {
		c.Node = node
	}
	if !strings.EqualFold(c.Node, node) {
		return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("Node '%s' for check '%s' doesn't match register request node '%s'", c.Node, c.ID, node)}
	}
	if c.Status == "" {
		c.Status = Critical
	}
	if c.Type == "" {
		c.Type = c.Definition.Kind()
	}
	if c.ServiceTags == nil {
		c.ServiceTags = []string{}
	}
	if err := c.checkSizes(); err != nil {
		return err
	}
	if err := catalog.CheckKey("check ID", c.ID); err != nil {
		return err
	}
	return catalog.CheckKey("service ID", c.ServiceID)
}

// checkSizes refuses texts that are too long.
func (c *Check) checkSizes() error {
	for _, text := range []struct {
		what, value string
		limit       int
	}{
		{"Name", c.Name, MaxText}, {"ID", c.ID, MaxText}, {"Notes", c.Notes, MaxText}, {"Status", string(c.Status), MaxText},
		{"Type", c.Type, MaxText}, {"Interval", c.Interval, MaxText}, {"Timeout", c.Timeout, MaxText}, {"Output", c.Output, MaxOutput},
	} {
		if len(text.value) > text.limit {
			return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("Invalid check %.64q: %s has %d bytes, %d are possible", c.ID, text.what, len(text.value), text.limit)}
		}
	}
	return nil
}

// Kind is how the check is meant to be run, by the first of its fields that is
// set, or empty if none is.
func (d *Definition) Kind() string {
	switch {
	case d.GRPC != "":
		return "grpc"
	case d.HTTP != "":
		return "http"
	case d.TTL != 0:
		return "ttl"
	case d.TCP != "":
		return "tcp"
	case d.UDP != "":
		return "udp"
	case d.AliasNode != "" || d.AliasService != "":
		return "alias"
	case d.DockerContainerID != "":
		return "docker"
	case len(d.ScriptArgs) > 0:
		return "script"
	case d.H2PING != "":
		return "h2ping"
	case d.OSService != "":
		return "os_service"
	}
	return ""
}
