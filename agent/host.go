package agent

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/muster-sd/muster/api"
)

// Host describes the machine. What cannot be found out is left out, and Errors
// says so.
func (s about) Host() api.Host {
	began := time.Now()
	out := api.Host{CollectionTime: began.UnixNano()}
	failed := func(what string, err error) {
		out.Errors = append(out.Errors, fmt.Sprintf("cannot find out about the %s: %v", what, err))
	}
	var err error
	if out.Memory, err = hostMemory(); err != nil {
		failed("memory", err)
	}
	if out.CPU, err = hostCPUs(); err != nil {
		failed("processors", err)
	}
	if out.Host, err = hostSystem(began); err != nil {
		failed("system", err)
	}
	path := s.a.config.DataDir
	if path == "" {
		path = string(os.PathSeparator)
	}
	if out.Disk, err = hostDisk(path); err != nil {
		failed("disk", err)
	}
	return out
}

// hostNames is what every system tells of itself.
func hostNames() (*api.HostSystem, error) {
	name, err := os.Hostname()
	return &api.HostSystem{Hostname: name, OS: runtime.GOOS, Platform: runtime.GOOS, KernelArch: runtime.GOARCH}, err
}

// percent is a share of a whole, from 0 to 100.
func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole) * 100
}
