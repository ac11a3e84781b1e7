package local

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-sd/muster/kv/mvcc"
)

func TestMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		cat := newFakeCatalog()
		r := open(t, Config{DataDir: folder})
		stop := running(r, cat)
		defer stop()
		service := func(on bool, reason string) {
			t.Helper()
			if err := r.SetServiceMaintenance(t.Context(), "web-1", on, reason); err != nil {
				t.Fatal(err)
			}
		}
		node := func(on bool, reason string) {
			t.Helper()
			if err := r.SetNodeMaintenance(t.Context(), on, reason); err != nil {
				t.Fatal(err)
			}
		}
		err := r.SetServiceMaintenance(t.Context(), "none", true, "")
		if mvcc.CodeOf(err) != mvcc.Unknown || !strings.HasPrefix(err.Error(), `Unknown service ID "none".`) {
			t.Errorf("unknown service: %v", err)
		}
		add(t, r, web("web-1"))
		synctest.Wait()
		cat.wrote()

		service(true, "new disk")
		service(true, "other")
		node(true, "")
		expect(t, "on", cat.wrote(), "+_service_maintenance:web-1=critical +_node_maintenance=critical")
		add(t, r, web("web-1"))
		if err := r.AddService(t.Context(), web("web-1"), true); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		again := reopen(t, folder, &log)
		for about, registry := range map[string]*Registry{"now": r, "after a restart": again} {
			expect(t, about, states(registry), "_node_maintenance=critical _service_maintenance:web-1=critical")
			c := registry.Checks()[1]
			expect(t, about, strings.Join([]string{c.Type, c.Name, c.Notes, c.ServiceName, c.Interval, c.Timeout}, "|"),
				"maintenance|Service Maintenance Mode|new disk|web||")
			if err := registry.Load(nil, nil); err != nil {
				t.Fatal(err)
			}
			expect(t, about+", reloaded", states(registry), "_node_maintenance=critical _service_maintenance:web-1=critical")
		}
		service(false, "")
		service(false, "")
		node(false, "")
		expect(t, "off", states(r)+cat.wrote(), "-_service_maintenance:web-1 -_node_maintenance")
		service(true, "")
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "it goes with its service", states(r)+files(t, folder), "")
	})
}
