package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clockTick is the unit of times in /proc: Linux shows hundredths of a second
// on every platform.
const clockTick = 10 * time.Millisecond

// usage is what a process takes of the machine.
type usage struct {
	resident  int // bytes, with the mapped pages of files
	anonymous int // bytes of the process's own
	peak      int // bytes
	cpu       time.Duration
}

// usageOf reads /proc; elsewhere than on Linux the test is skipped.
func usageOf(t testing.TB, pid int) usage {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no figures of processes here: %v", err)
	}
	kilobytes := func(name string) int {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")))
		if err != nil {
			t.Fatalf("%s of process %d: %v", name, pid, err)
		}
		return n << 10
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name, in parentheses, may have spaces; user and system time are the
	// 14th and 15th field, so the 11th and 12th after it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return usage{
		resident:  kilobytes("VmRSS"),
		anonymous: kilobytes("RssAnon"),
		peak:      kilobytes("VmHWM"),
		cpu:       time.Duration(ticks) * clockTick,
	}
}
