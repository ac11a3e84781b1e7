package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The commands that operate an agent, in an order in which each shows what those
// before it did.
func TestE2EOperate(t *testing.T) {
	t.Parallel()
	s := newSettings(t, `service { name = "web" port = 80 }`)
	p := startServer(t, s)
	const tree = "[\n\t{\n\t\t\"key\": \"app/a\",\n\t\t\"flags\": 3,\n\t\t\"value\": \"PG9uZT4=\"\n\t}\n]\n"
	for _, step := range []struct {
		args []string
		want expectation
	}{
		{[]string{"kv", "put", "-flags=3", "app/a", "<one>"}, expectation{out: "Success! Data written to: app/a\n"}},
		{[]string{"kv", "export", "app"}, expectation{out: tree}},
		{[]string{"kv", "export", "nope"}, expectation{out: "[]\n"}},
		{[]string{"kv", "import", "-prefix=copy", tree}, expectation{out: "Imported: copy/app/a\n"}},
		{[]string{"kv", "get", "copy/app/a"}, expectation{out: "<one>\n"}},

		{[]string{"maint"}, expectation{}},
		{[]string{"maint", "-enable", "-reason=new disk"}, expectation{out: "Node maintenance is now enabled\n"}},
		{[]string{"maint", "-enable", "-service=web", "-reason=slow"}, expectation{out: "Service maintenance is now enabled for \"web\"\n"}},
		{[]string{"maint"}, expectation{out: "Node:\n  Name:   n1\n  Reason: new disk\n\nService:\n  ID:     web\n  Reason: slow\n\n"}},
		{[]string{"maint", "-disable", "-service=web"}, expectation{out: "Service maintenance is now disabled for \"web\"\n"}},
		{[]string{"maint", "-disable"}, expectation{out: "Node maintenance is now disabled\n"}},
		{[]string{"maint", "-disable", "-service=nope"}, expectation{err: `Unknown service ID "nope"`, code: 1}},
		{[]string{"monitor", "-log-level=loud"}, expectation{err: "loud", code: 1}},
		{[]string{"reload"}, expectation{out: "Configuration reload triggered\nNothing changed\n"}},
	} {
		t.Run(strings.Join(step.args, " "), func(t *testing.T) {
			p.muster(t, step.args...).check(t, step.want)
		})
	}
	info := p.muster(t, "info").out
	for _, want := range []string{"agent:\n\tcheck_monitors = 0\n", "\nconsul:\n\t", "\n\tleader = true\n", "\nraft:\n\t", "\nruntime:\n\t", "\nserf_lan:\n\t"} {
		if !strings.Contains(info, want) {
			t.Errorf("info has no %q in it:\n%s", want, info)
		}
	}
	s.extra = "nonsense = 1"
	s.write(t)
	p.muster(t, "reload").check(t, expectation{err: "nonsense", code: 1})
}

// monitor shows what is logged until it is interrupted, or the agent leaves.
func TestE2EMonitorAndLeave(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	interrupted, left := p.monitor(t), p.monitor(t)
	if err := interrupted.command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := interrupted.exit(t); code != exitOK {
		t.Errorf("monitor that is interrupted exits with %d, want 0: %s", code, interrupted.err)
	}
	p.muster(t, "leave").check(t, expectation{out: "Graceful leave complete\n"})
	if code := p.exit(t); code != exitOK {
		t.Errorf("an agent that left exits with %d, want 0", code)
	}
	if code := left.exit(t); code != exitFailed || !strings.Contains(left.err.String(), "the agent ended the stream") {
		t.Errorf("monitor of an agent that left exits with %d and says %q, want 1 and the end of the stream", code, left.err)
	}
}

// monitor starts the command of that name, and waits until it shows a line: as
// long as it does not, another one is caused.
func (p *agentProcess) monitor(t *testing.T) *agentProcess {
	t.Helper()
	m := &agentProcess{
		command: exec.Command(binary(t), "monitor", "-log-level=debug", "-http-addr="+p.settings.address()),
		out:     &lockedBuffer{},
		err:     &lockedBuffer{},
		ended:   make(chan struct{}),
	}
	m.command.Stdout, m.command.Stderr = m.out, m.err
	if err := m.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.command.Wait() // the exit code is looked at where it matters
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = m.command.Process.Kill()
		<-m.ended
	})
	eventually(t, settleLimit, "monitor shows a line", func(context.Context) error {
		if strings.HasSuffix(m.out.String(), "\n") {
			return nil
		}
		_, err := p.client.Status().Leader()
		if err == nil {
			err = fmt.Errorf("it shows %q", m.out)
		}
		return err
	})
	return m
}
