package agent

import (
	"reflect"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/api"
)

func TestHostIsKnown(t *testing.T) {
	s := about{&Agent{config: &config.Config{DataDir: t.TempDir()}}}
	h := s.Host()
	if h.Errors != nil || h.Memory.Total == 0 || h.Host.OS != "linux" || h.Host.Hostname == "" || h.Disk.Total == 0 ||
		h.CollectionTime < time.Now().Add(-time.Minute).UnixNano() {
		t.Errorf("got %+v", h)
	}
	s.a.config.DataDir = "/nothing/there"
	if h := s.Host(); len(h.Errors) != 1 || h.Errors[0] != "cannot find out about the disk: statfs /nothing/there: no such file or directory" || h.Disk != nil {
		t.Errorf("got %+v", h.Errors)
	}
}

func TestMemoryAsTheSystemTells(t *testing.T) {
	got, err := parseMemory([]byte("MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:    250 kB\nOdd\nSwapTotal: x kB\n"))
	want := &api.HostMemory{Total: 1000 << 10, Free: 100 << 10, Available: 250 << 10, Used: 750 << 10, UsedPercent: 75}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parseMemory([]byte("nothing")); err == nil {
		t.Error("nothing was read as memory")
	}
}

func TestProcessorsAsTheSystemTells(t *testing.T) {
	got := parseCPUs([]byte("flags: early\nprocessor\t: 0\nvendor_id\t: V\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: A CPU: fast\n" +
		"cpu MHz\t\t: 2500.5\ncache size\t: 1024 KB\nflags\t\t: a b\n\nprocessor\t: 1\ncpu MHz\t: nan\n\nHardware\t: x\n"))
	want := []api.HostCPU{
		{CPU: 0, VendorID: "V", Family: "6", Model: "85", Cores: 1, ModelName: "A CPU: fast", MHz: 2500.5, CacheSize: 1024, Flags: []string{"a", "b"}},
		{CPU: 1, Cores: 1, Flags: []string{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestReleaseAsTheSystemTells(t *testing.T) {
	got := parseRelease([]byte("ID=debian\nVERSION_ID=\"12\"\n# x\nNAME='A B'\n"))
	if got["ID"] != "debian" || got["VERSION_ID"] != "12" || got["NAME"] != "A B" {
		t.Errorf("got %v", got)
	}
}

// FuzzHost reads any text as the files about the machine.
func FuzzHost(f *testing.F) {
	f.Add([]byte("MemTotal: 5 kB\nprocessor: 0\ncpu MHz: inf\nID=x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMemory(b); err == nil && m.Used > m.Total {
			t.Errorf("%d of %d bytes are used", m.Used, m.Total)
		}
		for _, c := range parseCPUs(b) {
			if c.MHz-c.MHz != 0 {
				t.Error("a frequency is no number")
			}
		}
		parseRelease(b)
	})
}
