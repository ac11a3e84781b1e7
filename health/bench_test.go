package health_test

import (
	"fmt"
	"testing"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// BenchmarkService joins the instances of a service, ten to a node, with their
// nodes and checks: one check of the node and one of each instance.
func BenchmarkService(b *testing.B) {
	for _, n := range []int{3, 50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes, checks := catalog.NewTable().Txn(newJournal(), 1), health.NewTable().Txn(newJournal(), 1)
			for i := range n {
				node, id := fmt.Sprintf("node-%d", i/10), fmt.Sprintf("web-%d", i)
				nodes.SetNode(catalog.Node{Name: node, Address: "10.0.0.1"})
				nodes.SetService(catalog.Service{Node: node, ID: id, Name: "web", Port: 80})
				checks.SetCheck(health.Check{Node: node, ID: health.SerfHealth, Status: health.Passing})
				checks.SetCheck(health.Check{Node: node, ID: "c-" + id, ServiceID: id, Status: health.Passing})
			}
			c, h := nodes.Commit(), checks.Commit()
			q := &health.ServiceQuery{Service: "web"}
			b.ReportAllocs()
			for b.Loop() {
				h.Service(c, q, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/instance")
		})
	}
}
