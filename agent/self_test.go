package agent_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// stats are the figures that an agent tells of itself.
func stats(t *testing.T, a *agenttest.Agent) map[string]map[string]string {
	t.Helper()
	var self struct{ Stats map[string]map[string]string }
	if err := a.GetJSON(t.Context(), "/v1/agent/self", &self); err != nil {
		t.Fatal(err)
	}
	return self.Stats
}

// Scripts read these keys.
func TestStatsHaveTheKeysThatScriptsRead(t *testing.T) {
	const pool = "coordinate_resets encrypted event_queue event_time failed health_score intent_queue left member_time members query_queue query_time"
	want := map[string]string{
		"agent":   "check_monitors check_ttls checks services",
		"build":   "prerelease revision version version_metadata",
		"runtime": "arch cpu_count goroutines max_procs os version", "serf_lan": pool,
	}
	server := maps.Clone(want)
	server["consul"] = "acl bootstrap known_datacenters leader leader_addr server"
	server["serf_wan"] = pool
	server["raft"] = "applied_index commit_index fsm_pending last_contact last_log_index last_log_term last_snapshot_index last_snapshot_term" +
		" latest_configuration latest_configuration_index num_peers protocol_version protocol_version_max protocol_version_min" +
		" snapshot_version_max snapshot_version_min state term"
	want["consul"] = "acl known_servers server"

	c := agenttest.StartCluster(t, 1, 1, agenttest.HCL(`encrypt = "cg8StVXbQJ0gPvMd9o7yrg=="`))
	for _, side := range []struct {
		agent *agenttest.Agent
		want  map[string]string
	}{{c.Servers[0], server}, {c.Clients[0], want}} {
		got := stats(t, side.agent)
		for group, keys := range side.want {
			for _, key := range strings.Fields(keys) {
				if _, ok := got[group][key]; !ok {
					t.Errorf("%s: %s has no %s: %v", side.agent.Name, group, key, slices.Sorted(maps.Keys(got[group])))
				}
			}
		}
	}
	if got := stats(t, c.Clients[0]); got["serf_wan"] != nil || got["raft"] != nil {
		t.Errorf("the client agent is in pools of servers: %v", got)
	}
}

func TestStatsOfThePools(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 1, 2, agenttest.HCL(`encrypt = "cg8StVXbQJ0gPvMd9o7yrg=="
		advertise_addr_wan = "203.0.113.7"
		ports { serf_wan = 9302 }`))
	server := c.Servers[0]
	before := stats(t, server)
	for group, members := range map[string]string{"serf_lan": "3", "serf_wan": "1"} {
		pool := before[group]
		if pool["members"] != members || pool["failed"] != "0" || pool["left"] != "0" || pool["encrypted"] != "true" || pool["health_score"] != "0" {
			t.Errorf("%s: %v", group, pool)
		}
	}
	raft := before["raft"]["latest_configuration"]
	if want := "Address:" + before["consul"]["leader_addr"] + "}]"; !strings.HasPrefix(raft, "[{Suffrage:Voter ID:") || !strings.HasSuffix(raft, want) {
		t.Errorf("the servers are %s, which lacks %s", raft, want)
	}
	if code, _, err := c.Clients[1].Do(t.Context(), "PUT", "/v1/agent/leave", nil); err != nil || code != 200 {
		t.Fatalf("%d %v", code, err)
	}
	c.Eventually("one has left", func() error {
		if pool := stats(t, server)["serf_lan"]; pool["left"] != "1" || pool["members"] != "3" || pool["member_time"] == before["serf_lan"]["member_time"] {
			return fmt.Errorf("the pool is %v", pool)
		}
		return nil
	})

	var wan []struct {
		Name, Addr string
		Port       int
		Status     int
		Tags       map[string]string
	}
	if err := server.GetJSON(t.Context(), "/v1/agent/members?wan=1", &wan); err != nil {
		t.Fatal(err)
	}
	if len(wan) != 1 || wan[0].Name != "s1.dc1" || wan[0].Addr != "203.0.113.7" || wan[0].Port != 9302 || wan[0].Status != 1 || wan[0].Tags["wan_join_port"] != "9302" {
		t.Errorf("between datacenters there are %+v", wan)
	}
	// A client agent is in no pool across datacenters.
	if err := c.Clients[0].GetJSON(t.Context(), "/v1/agent/members?wan=1", &wan); err != nil || len(wan) != 0 {
		t.Errorf("%+v %v", wan, err)
	}
}

// Each server knows by the catalog where the others are for other datacenters.
func TestMembersBetweenDatacentersHaveTheirOwnAddresses(t *testing.T) {
	c := agenttest.StartCluster(t, 2, 0, agenttest.Each(func(name string) []agenttest.Option {
		return []agenttest.Option{agenttest.HCL(`advertise_addr_wan = "203.0.113.` + name[1:] + `"
			ports { serf_wan = 9302 }`)}
	}))
	c.Eventually("both are listed", func() error {
		for _, a := range c.Servers {
			_, got, err := a.Do(t.Context(), "GET", "/v1/agent/members?wan=1", nil)
			if err != nil {
				return err
			}
			if strings.Count(got, `"Port":9302`) != 2 || !strings.Contains(got, `"Addr":"203.0.113.1"`) || !strings.Contains(got, `"Addr":"203.0.113.2"`) {
				return errors.New(got)
			}
		}
		return nil
	})
}
