package state

import (
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Usage asks how many nodes, services and instances there are. The answer is a
// *[UsageCounts].
type Usage struct{}

// UsageCounts is how many nodes, services and instances there are (Consul API
// documentation, page "Operator: Usage").
type UsageCounts struct {
	Nodes int `codec:"Nodes"`
	// Services counts distinct names.
	Services         int `codec:"Services"`
	ServiceInstances int `codec:"ServiceInstances"`
	// BillableServiceInstances leaves out the servers' own and the mesh's.
	BillableServiceInstances int `codec:"BillableServiceInstances"`
	// ConnectServiceInstances counts those of the mesh by [MeshKinds].
	ConnectServiceInstances map[string]int `codec:"ConnectServiceInstances"`
}

// connectNative is the kind under which instances are counted that speak the
// mesh's protocol themselves.
const connectNative = "connect-native"

// MeshKinds are the kinds by which the mesh's instances are counted. All of them
// are in each [UsageCounts].
func MeshKinds() []string {
	return []string{"api-gateway", connectNative, "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway"}
}

// usage answers a [Usage].
func (v *View) usage(w *mvcc.Watch) (*UsageCounts, uint64) {
	instances, index := v.Catalog.Instances(&catalog.Instances{}, w)
	u := &UsageCounts{
		Nodes:                   v.Catalog.CountNodes(),
		ServiceInstances:        len(instances),
		ConnectServiceInstances: map[string]int{},
	}
	for _, kind := range MeshKinds() {
		u.ConnectServiceInstances[kind] = 0
	}
	last := ""
	for i, in := range instances {
		s := in.Service
		if name := strings.ToLower(s.Name); i == 0 || name != last {
			u.Services++
			last = name
		}
		if s.Native {
			u.ConnectServiceInstances[connectNative]++
		}
		_, mesh := u.ConnectServiceInstances[s.Kind]
		if mesh {
			u.ConnectServiceInstances[s.Kind]++
		}
		if !mesh && !strings.EqualFold(s.Name, catalog.ServerService) {
			u.BillableServiceInstances++
		}
	}
	return u, index
}
