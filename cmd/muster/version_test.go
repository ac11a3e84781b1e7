package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent"
)

func TestVersionForPeople(t *testing.T) {
	got := runLine("", "version")
	first, rest, _ := strings.Cut(got.out, "\n")
	if first != "Muster v"+agent.Version {
		t.Errorf("first line = %q", first)
	}
	if !strings.Contains(rest, "Consul v"+agent.CompatVersion) {
		t.Errorf("the compatibility level is not in %q", rest)
	}
}

// Clients parse Version and choose by it what they send, so it is plain numbers,
// and nothing but the object stands on standard output.
func TestVersionForClients(t *testing.T) {
	got := runLine("", "version", "-format=json")
	var facts map[string]any
	if err := json.Unmarshal([]byte(got.out), &facts); err != nil {
		t.Fatalf("%v in %s", err, got.out)
	}
	for _, key := range []string{"Version", "Revision", "Prerelease", "BuildDate", "RPC", "MusterVersion"} {
		if _, ok := facts[key]; !ok {
			t.Errorf("%s is missing in %s", key, got.out)
		}
	}
	if version, _ := facts["Version"].(string); !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
		t.Errorf("Version = %q, want plain numbers", version)
	}
	if facts["MusterVersion"] != agent.Version {
		t.Errorf("MusterVersion = %v, want %s", facts["MusterVersion"], agent.Version)
	}
}
