//go:build !linux

package agent

import (
	"errors"
	"runtime"
	"time"

	"github.com/muster-sd/muster/api"
)

// errNotHere says that Muster cannot ask this system.
var errNotHere = errors.New("Muster cannot ask " + runtime.GOOS + " for it yet")

func machineIDs() []machineID { return nil }

func hostMemory() (*api.HostMemory, error) { return nil, errNotHere }

// hostCPUs counts the processors, which is all that is known.
func hostCPUs() ([]api.HostCPU, error) {
	out := make([]api.HostCPU, runtime.NumCPU())
	for i := range out {
		out[i] = api.HostCPU{CPU: i, Cores: 1, Flags: []string{}}
	}
	return out, nil
}

func hostSystem(time.Time) (*api.HostSystem, error) { return hostNames() }

func hostDisk(string) (*api.HostDisk, error) { return nil, errNotHere }
