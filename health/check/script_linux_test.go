package check

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestNoZombies has this process collect orphans, as the first process of a
// container does, and scripts that are killed with children of their own.
func TestNoZombies(t *testing.T) {
	const prctlSubreaper = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)
	if _, _, fault := syscall.RawSyscall(syscall.SYS_PRCTL, prctlSubreaper, 1, 0); fault != 0 {
		t.Skipf("cannot collect orphans here: %v", fault)
	}
	defer syscall.RawSyscall(syscall.SYS_PRCTL, prctlSubreaper, 0, 0)
	before := zombies(t)
	// What the kernel ends late is collected by the runs that follow.
	collected := func(about string, c *scriptChecker) {
		c.args = []string{"true"}
		settle(t, about, func() string {
			run(t, c, plenty)
			if after := zombies(t); after > before || len(c.left) > 0 {
				return fmt.Sprintf("%d zombies, %d groups", after-before, len(c.left))
			}
			return ""
		})
	}
	made := func(script string) *scriptChecker {
		d := shell(script)
		c, err := newChecker(&d, nil, 4096)
		if err != nil {
			t.Fatal(err)
		}
		return c.(*scriptChecker)
	}
	killed := made("sleep 300 & sleep 300 & (sleep 300 & wait) & wait")
	for range 5 {
		run(t, killed, enough/10)
	}
	collected("scripts that were killed", killed)
	leaves := made("sleep 2 >/dev/null 2>&1 & exit 0")
	run(t, leaves, plenty)
	if len(leaves.left) == 0 {
		t.Error("what a script left behind is not known")
	}
	collected("a script that left a process behind", leaves)
}

// zombies counts the children of this process that have ended and were not
// collected.
func zombies(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip(err)
	}
	count := 0
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(after); len(f) > 1 && f[0] == "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			count++
		}
	}
	return count
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}
