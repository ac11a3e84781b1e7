package local

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
)

// The catalog learns at once what a check says first, even if its status is the one
// that it was registered with; what it says after that waits.
func TestFirstOutputDoesNotWait(t *testing.T) {
	const interval = 5 * time.Minute
	for _, status := range []health.Status{health.Critical, health.Passing} {
		synctest.Test(t, func(t *testing.T) {
			cat := newFakeCatalog()
			r := open(t, Config{CheckUpdateInterval: interval})
			d := ttl("a")
			d.Status = status
			add(t, r, web("web-1", d))
			stop := running(r, cat)
			defer stop()
			synctest.Wait()
			say := func(output string) {
				t.Helper()
				if err := r.UpdateTTL(t.Context(), "a", status, output); err != nil {
					t.Fatal(err)
				}
				time.Sleep(FirstOutputGather)
				synctest.Wait()
			}
			expect(t, "before it says anything", cat.output("a"), "")
			say("one")
			expect(t, "its first output", cat.output("a"), "one")
			say("two")
			time.Sleep(interval/2 - 2*FirstOutputGather)
			expect(t, "its second output", cat.output("a"), "one")
			time.Sleep(interval + 2*FirstOutputGather)
			expect(t, "its second output, when it is due", cat.output("a"), "two")

			add(t, r, web("web-1", d))
			say("three")
			expect(t, "after it was registered again as it was", cat.output("a"), "two")
			d.TTL *= 2
			add(t, r, web("web-1", d))
			say("four")
			expect(t, "after it was registered as another", cat.output("a"), "four")
		})
	}
}

// A check that says nothing first has said its first word.
func TestFirstOutputIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{CheckUpdateInterval: 5 * time.Minute})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		for _, output := range []string{"", "late"} {
			if err := r.UpdateTTL(t.Context(), "a", health.Critical, output); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, "the catalog has", cat.output("a"), "")
	})
}

// A thousand checks whose first runs are spread over their interval cost few calls,
// and those that follow none until their output is due.
func TestFirstOutputsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const checks, spread = 1000, 10 * time.Second
		cat := newFakeCatalog()
		r := open(t, Config{CheckUpdateInterval: 5 * time.Minute})
		for i := range checks {
			if err := r.AddCheck(t.Context(), ttl(fmt.Sprintf("c%03d", i))); err != nil {
				t.Fatal(err)
			}
		}
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()
		round := func(n int) (calls int) {
			for i := range checks {
				r.publish(fmt.Sprintf("c%03d", i), health.Critical, fmt.Sprintf("run %d of %d", n, i))
				time.Sleep(spread / checks)
			}
			time.Sleep(FirstOutputGather)
			synctest.Wait()
			return len(strings.Fields(cat.wrote()))
		}
		most := int((spread+FirstOutputGather)/FirstOutputGather) + checks/MaxChecksPerCall + 1
		if calls := round(1); calls < checks/MaxChecksPerCall || calls > most {
			t.Errorf("the first outputs of %d checks took %d calls, want at most %d", checks, calls, most)
		}
		for i := range checks {
			if want, got := fmt.Sprintf("run 1 of %d", i), cat.output(fmt.Sprintf("c%03d", i)); got != want {
				t.Fatalf("of check %d the catalog has %q, want %q", i, got, want)
			}
		}
		for n := 2; n <= 10; n++ {
			if calls := round(n); calls != 0 {
				t.Errorf("round %d took %d calls", n, calls)
			}
		}
	})
}
