package local

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/health"
)

// BenchmarkResult is what the registry does with the result of one run, whose
// output is new each time, on an agent with 2,000 checks; and how many writes to
// the catalog 1,000 such runs cost before the output is due.
func BenchmarkResult(b *testing.B) {
	cat := newFakeCatalog()
	r := open(b, Config{CheckUpdateInterval: time.Hour})
	reg := web("web-1")
	for i := range 200 {
		reg.Checks = append(reg.Checks, ttl(string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	for i := range 10 {
		each := web("web-" + string(rune('0'+i)))
		for _, d := range reg.Checks {
			d.ID += string(rune('0' + i))
			each.Checks = append(each.Checks, d)
		}
		add(b, r, each)
	}
	stop := running(r, cat)
	defer stop()
	for _, c := range r.Checks() {
		r.publish(c.ID, health.Passing, "first")
	}
	for _, c := range r.Checks() {
		for deadline := time.Now().Add(20 * time.Second); cat.output(c.ID) != "first"; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatal("the catalog does not follow")
			}
		}
	}
	r.awaitSync(b.Context()) // what is under way
	ids := make([]string, 0, 2000)
	for _, c := range r.Checks() {
		ids = append(ids, c.ID)
	}
	cat.wrote()
	outputs := [2]string{"one", "two"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.publish(ids[n%len(ids)], health.Passing, outputs[n/len(ids)%2])
		n++
	}
	b.StopTimer()
	r.awaitSync(b.Context())
	writes := len(strings.Fields(cat.wrote()))
	b.ReportMetric(float64(writes)*1000/float64(n), "writes/1000runs")
}
