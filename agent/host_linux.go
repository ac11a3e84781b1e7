package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-sd/muster/api"
)

// readProc reads a file about the machine up to a limit.
func readProc(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// machineIDs are the IDs that firmware and system gave this machine, those of the
// firmware first: they outlast a new system. Only root may read them.
func machineIDs() []machineID {
	var ids []machineID
	for _, path := range []string{"/sys/class/dmi/id/product_uuid", "/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if b, err := readProc(path); err == nil {
			ids = append(ids, machineID{path, string(b)})
		}
	}
	return ids
}

// hostMemory reads /proc/meminfo (proc_meminfo(5)), whose values are in KiB.
func hostMemory() (*api.HostMemory, error) {
	b, err := readProc("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	return parseMemory(b)
}

func parseMemory(b []byte) (*api.HostMemory, error) {
	kib := map[string]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if n, err := strconv.ParseUint(number, 10, 54); err == nil {
			kib[name] = n << 10
		}
	}
	m := &api.HostMemory{Total: kib["MemTotal"], Available: kib["MemAvailable"], Free: kib["MemFree"],
		Buffers: kib["Buffers"], Cached: kib["Cached"], SwapTotal: kib["SwapTotal"], SwapFree: kib["SwapFree"]}
	if m.Total == 0 {
		return nil, errors.New("/proc/meminfo has no MemTotal")
	}
	m.Used = m.Total - min(m.Total, m.Available)
	m.UsedPercent = percent(m.Used, m.Total)
	return m, nil
}

// hostCPUs reads /proc/cpuinfo (proc_cpuinfo(5)).
func hostCPUs() ([]api.HostCPU, error) {
	b, err := readProc("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	return parseCPUs(b), nil
}

// parseCPUs reads a block of lines for each processor. Names differ between
// architectures: what is not known is left empty.
func parseCPUs(b []byte) []api.HostCPU {
	out := []api.HostCPU{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "processor" {
			if n, err := strconv.Atoi(value); err == nil {
				out = append(out, api.HostCPU{CPU: n, Cores: 1, Flags: []string{}})
			}
			continue
		}
		if len(out) == 0 {
			continue
		}
		c := &out[len(out)-1]
		switch name {
		case "vendor_id", "CPU implementer":
			c.VendorID = value
		case "cpu family", "CPU architecture":
			c.Family = value
		case "model", "CPU part":
			c.Model = value
		case "model name":
			c.ModelName = value
		case "cpu MHz":
			c.MHz, _ = strconv.ParseFloat(value, 64)
			c.MHz = number(c.MHz)
		case "cache size":
			size, _, _ := strings.Cut(value, " ")
			c.CacheSize, _ = strconv.Atoi(size)
		case "flags", "Features":
			c.Flags = strings.Fields(value)
		}
	}
	return out
}

// hostSystem reads what runs, and since when.
func hostSystem(now time.Time) (*api.HostSystem, error) {
	out, err := hostNames()
	if err != nil {
		return nil, err
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("sysinfo: %w", err)
	}
	out.Uptime = uint64(max(info.Uptime, 0))
	out.BootTime = uint64(max(now.Unix()-int64(info.Uptime), 0))
	out.Procs = uint64(info.Procs)
	if b, err := readProc("/proc/sys/kernel/osrelease"); err == nil {
		out.KernelVersion = strings.TrimSpace(string(b))
	}
	if b, err := readProc("/etc/machine-id"); err == nil {
		out.HostID = strings.TrimSpace(string(b))
	}
	if b, err := readProc("/etc/os-release"); err == nil {
		release := parseRelease(b)
		if id := release["ID"]; id != "" {
			out.Platform = id
		}
		out.PlatformFamily, _, _ = strings.Cut(release["ID_LIKE"], " ")
		if out.PlatformFamily == "" {
			out.PlatformFamily = out.Platform
		}
		out.PlatformVersion = release["VERSION_ID"]
	}
	return out, nil
}

// parseRelease reads the assignments of /etc/os-release (os-release(5)).
func parseRelease(b []byte) map[string]string {
	out := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			out[name] = strings.Trim(value, `"'`)
		}
	}
	return out
}

// hostDisk asks for the file system that path lies on.
func hostDisk(path string) (*api.HostDisk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", path, err)
	}
	block := uint64(s.Bsize)
	d := &api.HostDisk{Path: path, Fstype: fileSystem(uint64(s.Type)), Total: s.Blocks * block, Free: s.Bavail * block,
		Used: (s.Blocks - s.Bfree) * block, InodesTotal: s.Files, InodesFree: s.Ffree, InodesUsed: s.Files - s.Ffree}
	d.UsedPercent = percent(d.Used, d.Used+d.Free)
	d.InodesUsedPercent = percent(d.InodesUsed, d.InodesTotal)
	return d, nil
}

// fileSystem is the name of a kind of file system by its number (statfs(2)).
func fileSystem(magic uint64) string {
	switch magic & 0xffffffff {
	case 0xef53:
		return "ext2/ext3"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x01021994:
		return "tmpfs"
	case 0x794c7630:
		return "overlayfs"
	case 0x6969:
		return "nfs"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("0x%x", magic&0xffffffff)
}
