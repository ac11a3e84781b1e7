package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

func TestAServerThatWasAwayForTooLongDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	a := agenttest.Start(t, agenttest.OnDisk(dir))
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	seen := filepath.Join(dir, "server_metadata.json")
	if _, err := os.Stat(seen); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(seen, []byte(`{"last_seen_unix": 1500000000}`), 0o600); err != nil {
		t.Fatal(err)
	}
	server := "server = true\nbootstrap_expect = 1\ndata_dir = " + strconv.Quote(dir)
	if _, err := agent.New(raw(t, server)); err == nil {
		t.Fatal("it started")
	} else if away, ok := errors.AsType[*agent.AwayError](err); !ok || away.Path != dir {
		t.Errorf("got %v", err)
	}
	// Who knows that it may come back says so; agents that are no servers may always.
	for _, hcl := range []string{"data_dir = " + strconv.Quote(dir), server + "\nserver_rejoin_age_max = \"1000000h\""} {
		made, err := agent.New(raw(t, hcl))
		if err != nil {
			t.Fatalf("%s: %v", hcl, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := made.Run(ctx); err != nil {
			t.Error(err)
		}
	}
}
