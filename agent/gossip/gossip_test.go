package gossip

import (
	"net/netip"
	"testing"
)

func TestAlone(t *testing.T) {
	tags := map[string]string{"role": RoleServer}
	p := NewAlone(Member{Name: "a", ID: "1", Addr: netip.MustParseAddr("192.0.2.1"), Tags: tags})
	tags["role"] = RoleClient
	members := p.Members()
	if len(members) != 1 || members[0].Name != "a" || members[0].Status != Alive || !members[0].IsServer() {
		t.Fatalf("the members are %+v", members)
	}
	members[0].Name = "changed"
	if again := p.Members(); again[0].Name != "a" {
		t.Error("the list is shared with its readers")
	}
	select {
	case <-p.Changed():
		t.Error("a pool of one changed")
	default:
	}
}

func TestStatusWords(t *testing.T) {
	for number, word := range []string{"none", "alive", "leaving", "left", "failed"} {
		if got := Status(number).String(); got != word {
			t.Errorf("%d is %q, want %q", number, got, word)
		}
	}
	if got := Status(99).String(); got != "none" {
		t.Errorf("an unknown one is %q", got)
	}
}
