package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// manyReadAtOnce has many clients of each agent change a key and an instance of their
// own and read them at the same agent: each reads what it wrote, whether it is new,
// as before, or gone.
func manyReadAtOnce(t *testing.T, agents []*agenttest.Agent) {
	t.Helper()
	var group sync.WaitGroup
	for _, a := range agents {
		for i := range 8 {
			group.Go(func() {
				if err := readsItsWrites(t.Context(), a, fmt.Sprintf("own-%s-%d", a.Name, i)); err != nil {
					t.Errorf("client %d of %s: %v", i, a.Name, err)
				}
			})
		}
	}
	group.Wait()
}

func readsItsWrites(ctx context.Context, a *agenttest.Agent, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	put := func(path, body string) error {
		status, text, err := a.Do(ctx, http.MethodPut, path, strings.NewReader(body))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("PUT %s: %d %s", path, status, text)
		}
		return err
	}
	reads := func(path string, status int, part string) error {
		got, text, err := a.Do(ctx, http.MethodGet, path, nil)
		if err == nil && (got != status || !strings.Contains(text, part)) {
			err = fmt.Errorf("GET %s: %d %s, want %d %s", path, got, text, status, part)
		}
		return err
	}
	key, service := "/v1/kv/"+name, "/v1/health/service/"+name
	for i := range 6 {
		value := fmt.Sprintf("value-%d", i)
		instance := fmt.Sprintf(`{"Node": "%s", "Address": "192.0.2.1", "Service": {"Service": "%[1]s", "Port": %d}}`, name, 1000+i)
		steps := []func() error{
			func() error { return put(key, value) },
			func() error { return reads(key+"?raw", http.StatusOK, value) },
			func() error { return reads(key+"?raw", http.StatusOK, value) },
			func() error { return put("/v1/catalog/register", instance) },
			func() error { return reads(service, http.StatusOK, fmt.Sprintf(`"Port":%d`, 1000+i)) },
			func() error { return reads(service, http.StatusOK, fmt.Sprintf(`"Port":%d`, 1000+i)) },
		}
		if i%2 == 1 {
			steps = append(steps,
				func() error {
					status, text, err := a.Do(ctx, http.MethodDelete, key, nil)
					if err == nil && status != http.StatusOK {
						err = fmt.Errorf("DELETE %s: %d %s", key, status, text)
					}
					return err
				},
				func() error { return reads(key+"?raw", http.StatusNotFound, "") },
				func() error { return reads(key+"?raw", http.StatusNotFound, "") },
				func() error { return put("/v1/catalog/deregister", fmt.Sprintf(`{"Node": "%s"}`, name)) },
				func() error { return reads(service, http.StatusOK, "[]") },
			)
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}
