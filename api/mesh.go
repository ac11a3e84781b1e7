package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// configKinds are the kinds of central configuration that clients may ask for.
// Muster keeps none of them.
var configKinds = []string{
	"api-gateway", "bound-api-gateway", "control-plane-request-limit", "exported-services", "file-system-certificate",
	"http-route", "ingress-gateway", "inline-certificate", "jwt-provider", "mesh", "proxy-defaults", "sameness-group",
	"service-defaults", "service-intentions", "service-resolver", "service-router", "service-splitter", "tcp-route",
	"terminating-gateway",
}

func connectDisabled(*call) (any, error) {
	return nil, refuse(http.StatusInternalServerError, textConnectDisabled)
}

// noInstances is a list of instances that only a mesh could have. It waits and
// has an index like the service of that name, so that watchers do not spin.
func noInstances(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingService)
	}
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	_, meta, err := ask(c, o, &catalog.Instances{Service: c.rest}, c.h.Catalog.Instances)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	return []any{}, nil
}

// noEntries is a list of what Muster does not keep and that therefore never
// changes.
func noEntries(c *call) (any, error) {
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	if err := c.ownDatacenter(o.Datacenter); err != nil {
		return nil, err
	}
	if o.Index > 0 {
		c.hold(o.Wait)
	}
	c.setMeta(mvcc.Meta{Index: 1, KnownLeader: true, Mode: o.Mode}, false)
	return []any{}, nil
}

// configEntry lists the entries of a kind, of which there are none, or refuses
// one by its name.
func configEntry(c *call) (any, error) {
	kind, name, _ := strings.Cut(c.rest, "/")
	if !slices.Contains(configKinds, kind) {
		return nil, refuse(http.StatusInternalServerError, "invalid config entry kind: %s", kind)
	}
	if name != "" {
		return nil, refuse(http.StatusNotFound, "Config entry not found for %q / %q", kind, name)
	}
	return noEntries(c)
}
