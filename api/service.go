package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/muster-sd/muster/catalog"
)

// agentServiceShape is an instance as its own agent shows it.
type agentServiceShape struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                            `json:",omitempty"`
	TaggedAddresses   map[string]catalog.ServiceAddress `json:",omitempty"`
	Weights           catalog.Weights
	EnableTagOverride bool
	ContentHash       string            `json:",omitempty" filter:"-"`
	Proxy             proxy             `json:",omitempty"`
	Connect           *connect          `json:",omitempty"`
	PeerName          string            `json:",omitempty"`
	Datacenter        string            `filter:"-"`
	Locality          *catalog.Locality `json:",omitempty" filter:"-"`
}

func newAgentService(s *catalog.Service, dc string) *agentServiceShape {
	out := &agentServiceShape{Kind: s.Kind, ID: s.ID, Service: s.Name, Tags: listed(s.Tags), Meta: s.Meta, Port: s.Port,
		Address: s.Address, SocketPath: s.SocketPath, TaggedAddresses: s.TaggedAddresses, Weights: s.Weights,
		EnableTagOverride: s.EnableTagOverride, Proxy: s.Proxy, Datacenter: dc, Locality: s.Locality}
	if out.Meta == nil {
		out.Meta = map[string]string{}
	}
	if s.Native {
		out.Connect = &connect{Native: true}
	}
	return out
}

// agentServices shows the instances registered here by ID.
func agentServices(c *call) (any, error) {
	keep, err := readFilter[agentServiceShape](c)
	if err != nil {
		return nil, err
	}
	out := map[string]*agentServiceShape{}
	for _, s := range c.h.Local.Services() {
		if shown := newAgentService(s.Service, c.h.Config.Datacenter); keep(shown) {
			out[shown.ID] = shown
		}
	}
	return out, nil
}

// agentService shows one instance, at once or when it is no longer what the
// client knows by its hash.
func agentService(c *call) (any, error) {
	known := c.value("hash")
	wait, err := c.wait()
	if err != nil {
		return nil, err
	}
	shown, changed, err := c.hashedService()
	if known != "" && err == nil && shown.ContentHash == known {
		shown, err = c.awaitService(changed, known, wait)
	}
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("X-Consul-ContentHash", shown.ContentHash)
	return shown, nil
}

// awaitService waits until the instance has another hash or is gone, or until the
// time is over.
func (c *call) awaitService(changed <-chan struct{}, known string, wait time.Duration) (shown *agentServiceShape, err error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		last := false
		select {
		case <-changed:
		case <-over.C:
			last = true
		case <-c.h.draining.Done():
			last = true
		case <-c.r.Context().Done():
			return nil, c.r.Context().Err()
		}
		if shown, changed, err = c.hashedService(); last || err != nil || shown.ContentHash != known {
			return shown, err
		}
	}
}

// hashedService shows the instance with the hash of its definition, and returns a
// channel that is closed when the definition changes.
func (c *call) hashedService() (*agentServiceShape, <-chan struct{}, error) {
	service, changed := c.h.Local.WatchService(c.rest)
	if service == nil {
		return nil, nil, refuse(http.StatusNotFound, "unknown service ID: %s", c.rest)
	}
	shown := newAgentService(service, c.h.Config.Datacenter)
	text, err := json.Marshal(shown)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(text)
	shown.ContentHash = hex.EncodeToString(sum[:8])
	return shown, changed, nil
}
