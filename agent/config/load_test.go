package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// testHost is a machine with a name and one private address.
func testHost(addresses ...string) host {
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	return host{
		name:      func() (string, error) { return "host1", nil },
		addresses: func() ([]netip.Addr, error) { return all, nil },
		expand: func(text string) (string, error) {
			switch text {
			case "{{ two }}":
				return "10.0.0.1 10.0.0.2", nil
			case "{{ one }}":
				return "10.0.0.1", nil
			case "{{ none }}":
				return "", nil
			}
			return "", errors.New("no such function")
		},
		openFiles: func() (uint64, bool) { return 1024, true },
	}
}

// folder writes files into a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaults(t *testing.T) {
	c, err := load(Sources{Dev: true}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
}
