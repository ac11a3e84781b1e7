package agent

import (
	"strings"
	"testing"
)

func TestIDsOfMachinesGiveIDsOfNodes(t *testing.T) {
	said := ""
	derive := func(texts ...string) (string, error) {
		var ids []machineID
		for i, text := range texts {
			ids = append(ids, machineID{string(rune('a' + i)), text})
		}
		said = ""
		return hostNodeID(ids, func(_ string, args ...any) { said = args[1].(string) })
	}
	first, err := derive("0B6D7C5E-1F1A-4C59-9E4C-5C9C6F6C2A11\n")
	if err != nil || !validUUID(first) || said != "a" {
		t.Fatalf("%q from %q, %v", first, said, err)
	}
	if strings.Contains(first, "0b6d7c5e") {
		t.Errorf("%s tells the machine's own", first)
	}
	for name, c := range map[string]struct {
		texts []string
		from  string
	}{
		"the same in small letters": {[]string{"0b6d7c5e-1f1a-4c59-9e4c-5c9c6f6c2a11"}, "a"},
		"as systemd writes it":      {[]string{"0b6d7c5e1f1a4c599e4c5c9c6f6c2a11\n"}, "a"},
		"after those that are none": {[]string{"", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "Not Settable", "0b6d7c5e1f1a4c599e4c5c9c6f6c2a11"}, "e"},
		"before others":             {[]string{"0b6d7c5e1f1a4c599e4c5c9c6f6c2a11", "11111111111111111111111111111111"}, "a"},
	} {
		if id, err := derive(c.texts...); err != nil || id != first || said != c.from {
			t.Errorf("%s: %s from %q, %v", name, id, said, err)
		}
	}
	if id, err := derive("11111111111111111111111111111111"); err != nil || id == first {
		t.Errorf("another machine: %s, %v", id, err)
	}
	if id, err := derive("uninitialized", "00000000000000000000000000000000"); err == nil || !strings.Contains(err.Error(), "disable_host_node_id") {
		t.Errorf("a machine without an ID: %q, %v", id, err)
	}
}
