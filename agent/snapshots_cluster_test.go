package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

// saveArchive saves the state through an agent.
func saveArchive(t *testing.T, c *agenttest.Cluster, a *agenttest.Agent) (archive string) {
	c.Eventually("a snapshot is saved at "+a.Name, func() error {
		status, body, err := a.Do(t.Context(), http.MethodGet, "/v1/snapshot", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		archive = body
		return err
	})
	return archive
}

// Every agent saves and restores. An archive of another cluster is restored too, but
// not without a word.
func TestArchivesOfThisClusterAndOfAnother(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 3, 1, agenttest.Log(log))
	foreign := agenttest.Start(t, agenttest.Name("foreign"))
	restore := func(a *agenttest.Agent, archive string) {
		t.Helper()
		status, body, err := a.Do(t.Context(), http.MethodPut, "/v1/snapshot", strings.NewReader(archive))
		if err != nil || status != http.StatusOK {
			t.Fatalf("cannot restore at %s: %d %s %v", a.Name, status, body, err)
		}
	}
	reads := func(want string) {
		t.Helper()
		for _, a := range c.Agents() {
			c.Eventually(a.Name+" has what was restored", func() error {
				got, err := readKey(t, a, "key", "")
				if err == nil && got != want {
					err = fmt.Errorf("it reads %q, want %q", got, want)
				}
				return err
			})
		}
	}
	for i, a := range []*agenttest.Agent{c.Leader(), c.Followers()[0], c.Clients[0]} {
		value := fmt.Sprint(i)
		if err := writeKey(t, a, "key", value); err != nil {
			t.Fatal(err)
		}
		archive := saveArchive(t, c, a)
		if err := writeKey(t, a, "key", "later"); err != nil {
			t.Fatal(err)
		}
		woken := waitEverywhere(t, c, "key")
		restore(a, archive)
		c.Eventually("all who wait are woken by what is restored", func() error {
			select {
			case <-woken:
				return nil
			case <-time.After(time.Second):
			}
			restore(a, archive) // some began to wait only after it
			return errors.New("some wait still")
		})
		reads(value)
	}
	if strings.Contains(log.String(), agent.PhraseForeign) {
		t.Error("the cluster takes its own archives for another's")
	}
	if err := writeKey(t, foreign, "key", "foreign"); err != nil {
		t.Fatal(err)
	}
	status, archive, err := foreign.Do(t.Context(), http.MethodGet, "/v1/snapshot", nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, archive, err)
	}
	restore(c.Clients[0], archive)
	reads("foreign")
	if !strings.Contains(log.String(), agent.PhraseForeign) {
		t.Error("nothing was said of the other cluster")
	}
}

// waitEverywhere has a client of each agent wait for a change of a key, and of what
// begins as it does. The channel is closed when all have been woken.
func waitEverywhere(t *testing.T, c *agenttest.Cluster, key string) <-chan struct{} {
	t.Helper()
	const wait = 2 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), wait/2)
	woken := make(chan struct{})
	var group sync.WaitGroup
	for _, a := range c.Agents() {
		for _, target := range []string{"/v1/kv/" + key, "/v1/kv/" + key + "?recurse"} {
			response, err := http.Get(a.URL(target))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			and := "?"
			if strings.Contains(target, "?") {
				and = "&"
			}
			target += fmt.Sprintf("%sindex=%s&wait=%s", and, response.Header.Get("X-Consul-Index"), wait)
			group.Go(func() {
				if status, body, err := a.Do(ctx, http.MethodGet, target, nil); err != nil || status != http.StatusOK {
					t.Errorf("who waits at %s for %s is not woken: %d %s %v", a.Name, target, status, body, err)
				}
			})
		}
	}
	go func() {
		defer close(woken)
		defer cancel()
		group.Wait()
	}()
	return woken
}

// What is no whole archive is refused with a line that says why, and nothing changes.
func TestBrokenArchivesAreRefused(t *testing.T) {
	a := agenttest.Start(t, agenttest.Name("one"))
	do(t, "PUT", a.URL("/v1/kv/key"), "before")
	// An archive is not to be trimmed, as do does.
	_, whole, err := a.Do(t.Context(), http.MethodGet, "/v1/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, "PUT", a.URL("/v1/kv/key"), "after")
	for _, c := range []struct{ archive, want string }{
		{"", "failed to decompress snapshot: EOF: it is empty: it has 0 bytes"},
		{whole[:len(whole)-1], fmt.Sprintf("failed to decompress snapshot: unexpected EOF: it is cut short: its %d bytes ", len(whole)-1)},
		{"a text", "failed to decompress snapshot: gzip: invalid header: it is not an archive of Muster's state: "},
	} {
		status, text, err := a.Do(t.Context(), http.MethodPut, "/v1/snapshot", strings.NewReader(c.archive))
		if err != nil || status != http.StatusInternalServerError || !strings.HasPrefix(text, c.want) || strings.Contains(strings.TrimSpace(text), "\n") {
			t.Errorf("%d %q %v, want %q", status, text, err, c.want)
		}
	}
	if got := do(t, "GET", a.URL("/v1/kv/key?raw"), "").body; got != "after" {
		t.Errorf("the key is %q", got)
	}
}

// What agents registered after an archive was taken comes back into the catalog soon
// after that is restored, whoever is asked to restore it: their periodic comparison is
// a minute or two away.
func TestRegistrationsSurviveARestore(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 1)
	agents := c.Agents()
	put := func(a *agenttest.Agent, path, body string) {
		t.Helper()
		status, text, err := a.Do(t.Context(), http.MethodPut, path, strings.NewReader(body))
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s at %s: %d %s %v", path, a.Name, status, text, err)
		}
	}
	in := func(service string) {
		t.Helper()
		c.Eventually(service+" is in the catalog at all agents", func() error {
			var list []struct{ Node string }
			if err := c.Clients[0].GetJSON(t.Context(), "/v1/catalog/service/"+service, &list); err != nil {
				return err
			}
			if len(list) != len(agents) {
				return fmt.Errorf("it is at %v, want %d agents", list, len(agents))
			}
			return nil
		})
	}
	for _, a := range agents {
		put(a, "/v1/agent/service/register", `{"Name":"early"}`)
	}
	in("early")
	archive := saveArchive(t, c, agents[0])
	for _, a := range agents {
		put(a, "/v1/agent/service/register", `{"Name":"late"}`)
	}
	in("late")
	for _, a := range []*agenttest.Agent{c.Leader(), c.Clients[0]} {
		put(a, "/v1/snapshot", archive)
		in("late")
		in("early")
	}
}
