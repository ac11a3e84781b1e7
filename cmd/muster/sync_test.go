package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent/config"
)

// logStoreKeys are all the keys that, by their names, might have to do with how
// the log gets to the disk.
const logStoreKeys = `
raft_logstore {
  backend           = "wal"
  disable_log_cache = true
  verification { enabled = true interval = "1s" }
  boltdb { no_freelist_sync = true }
  wal { segment_size_mb = 1 }
}
raft_boltdb { NoFreelistSync = true }
`

// Between the moment that a request arrives and the moment that it is answered
// with success, what it writes goes to a file, and the file to the disk. No
// setting changes that; only an agent that keeps nothing on disk at all is
// different, which shows that this test would find an answer that came too
// early.
func TestSyncBeforeAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		extra string
		dev   bool
	}{
		{name: "server"},
		{name: "server with other ways to store the log", extra: logStoreKeys},
		{name: "in memory", dev: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t, test.extra)
			var flags []string
			if test.dev {
				flags = []string{"-dev"}
				s.writeDev(t)
			}
			p := startServer(t, s, flags...)
			stop := traceSystemCalls(t, p)
			writes := makeWrites(t, p)
			events := parseTrace(stop())
			for _, w := range writes {
				err := syncedBeforeAnswer(events, w.marker, filepath.Join(s.dir, "data", w.folder))
				if test.dev && !errors.Is(err, errNotStored) {
					t.Errorf("%s: %v, want %v", w.marker, err, errNotStored)
				}
				if !test.dev && err != nil {
					t.Errorf("%s: %v", w.marker, err)
				}
			}
			syncs := 0
			for _, e := range events {
				if e.syncs() {
					syncs++
				}
			}
			t.Logf("%d writes, %d syncs", len(writes), syncs)
			if test.dev && syncs > 0 {
				t.Errorf("%d syncs of an agent that has no files", syncs)
			}
		})
	}
}

// Keys whose names speak of syncing have no say in it: see logStoreKeys.
func TestNoKeyTurnsSyncingOff(t *testing.T) {
	var found []string
	for _, key := range config.Keys() {
		if strings.Contains(key.Path, "sync") && key.Support == config.Works {
			found = append(found, key.Path)
		}
	}
	if found != nil {
		t.Errorf("these keys have an effect: %v; if they are about writing to disk, TestSyncBeforeAnswer must try them", found)
	}
}

// writeDev puts settings in place that have no folder for data.
func (s *settings) writeDev(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf("ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = %d grpc = -1 }\n",
		s.ports.http, s.ports.dns, s.ports.server, s.ports.lan, s.ports.wan)
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// syncWrite is a write that was acknowledged: text that only its request and
// what is stored of it have, and the folder of data that it is stored in.
type syncWrite struct{ marker, folder string }

// makeWrites makes writes of each kind, one after the other.
func makeWrites(t *testing.T, p *agentProcess) []syncWrite {
	t.Helper()
	var writes []syncWrite
	kv := p.client.KV()
	for _, kind := range []struct {
		name, folder string
		write        func(marker string) error
	}{
		{"put", "raft", func(marker string) error {
			_, err := kv.Put(&api.KVPair{Key: marker, Value: []byte("x")}, nil)
			return err
		}},
		{"delete", "raft", func(marker string) error {
			_, err := kv.Delete(marker, nil)
			return err
		}},
		{"tree", "raft", func(marker string) error {
			_, err := kv.DeleteTree(marker, nil)
			return err
		}},
		{"cas", "raft", func(marker string) error {
			done, _, err := kv.CAS(&api.KVPair{Key: marker, Value: []byte("x")}, nil)
			if err == nil && !done {
				err = errors.New("it was not done")
			}
			return err
		}},
		{"catalog", "raft", func(marker string) error {
			_, err := p.client.Catalog().Register(&api.CatalogRegistration{
				Node: marker, Address: "192.0.2.1", Service: &api.AgentService{Service: "web"},
			}, nil)
			return err
		}},
		{"service", "services", func(marker string) error {
			return p.client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: marker, Name: "web"})
		}},
		{"check", "checks", func(marker string) error {
			return p.client.Agent().CheckRegister(&api.AgentCheckRegistration{
				ID: marker, Name: "web", AgentServiceCheck: api.AgentServiceCheck{TTL: "1h"},
			})
		}},
	} {
		for i := range 5 {
			marker := fmt.Sprintf("%s-%d-of-sync", kind.name, i)
			if err := kind.write(marker); err != nil {
				t.Fatalf("%s: %v", marker, err)
			}
			writes = append(writes, syncWrite{marker, kind.folder})
		}
	}
	return writes
}

// traceSystemCalls lets strace watch an agent. The returned function ends that
// and returns what was written down.
func traceSystemCalls(t *testing.T, p *agentProcess) (stop func() string) {
	t.Helper()
	program, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	path := filepath.Join(p.settings.dir, "trace")
	command := exec.Command(program, "-f", "-yy", "-s", "100000", "-e", "signal=none",
		"-e", "trace=read,write,writev,pwrite64,fsync,fdatasync", "-o", path, "-p", strconv.Itoa(p.command.Process.Pid))
	messages, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	lines := bufio.NewReader(messages)
	for {
		line, err := lines.ReadString('\n')
		if err != nil || strings.Contains(line, "not permitted") {
			_ = command.Process.Kill()
			_ = command.Wait()
			t.Skipf("strace may not watch here: %s", line)
		}
		// "Process 1 attached with 7 threads" comes once it has them all.
		if strings.Contains(line, " attached") {
			break
		}
	}
	return func() string {
		if err := command.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		for _, err := lines.ReadString('\n'); err == nil; _, err = lines.ReadString('\n') {
		}
		_ = command.Wait() // it ends by the signal
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// systemCall is one system call on a file. The numbers are lines of the trace.
type systemCall struct {
	name          string
	file          string // a path, or the two ends of a connection
	text          string // everything else about it
	result        string
	begins, comes int
}

func (c *systemCall) syncs() bool  { return c.name == "fsync" || c.name == "fdatasync" }
func (c *systemCall) writes() bool { return strings.Contains(c.name, "write") }

// parseTrace reads what strace has written. A call during which another thread
// did something is spread over two lines.
func parseTrace(trace string) []*systemCall {
	var calls []*systemCall
	open := map[string]*systemCall{} // by thread
	for number, line := range strings.Split(trace, "\n") {
		thread, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimLeft(rest, " ")
		call := open[thread]
		switch {
		case rest == "", strings.HasPrefix(rest, "---"), strings.HasPrefix(rest, "+++"):
			continue
		case strings.HasPrefix(rest, "<... "):
			if call == nil {
				continue // it began before the trace
			}
			call.text += rest
			delete(open, thread)
		default:
			call = &systemCall{text: rest, begins: number}
			calls = append(calls, call)
			call.name, rest, _ = strings.Cut(rest, "(")
			_, rest, _ = strings.Cut(rest, "<")
			call.file = fileName(rest)
			if text, unfinished := strings.CutSuffix(call.text, "<unfinished ...>"); unfinished {
				call.text = text
				call.comes = len(trace) // never, as far as is known
				open[thread] = call
				continue
			}
		}
		call.comes = number
		call.result = call.text[strings.LastIndex(call.text, "= ")+len("= "):]
	}
	return calls
}

// fileName cuts off what follows a file's name. That of a connection has a ">"
// in it.
func fileName(text string) string {
	end := len(text)
	for _, after := range []string{">, ", ">)", "> <unfinished"} {
		if i := strings.Index(text, after); i >= 0 {
			end = min(end, i)
		}
	}
	return text[:end]
}

// What can be missing.
var (
	errNotArrived  = errors.New("the request never arrived")
	errNotAnswered = errors.New("the request was not answered")
	errNotStored   = errors.New("it was answered before it was written to a file")
	errNotSynced   = errors.New("it was answered before the file was on the disk")
)

// syncedBeforeAnswer finds the request with a marker, and in between its arrival
// and its answer a write of the marker to a file of a folder, and then a sync of
// that file that succeeded.
func syncedBeforeAnswer(calls []*systemCall, marker, folder string) error {
	index := slices.IndexFunc(calls, func(c *systemCall) bool {
		return c.name == "read" && strings.HasPrefix(c.file, "TCP") && strings.Contains(c.text, marker)
	})
	if index < 0 {
		return errNotArrived
	}
	request := calls[index]
	index = slices.IndexFunc(calls, func(c *systemCall) bool {
		return c.writes() && c.file == request.file && c.begins > request.comes && strings.Contains(c.text, "HTTP/1.1 200")
	})
	if index < 0 {
		return errNotAnswered
	}
	answer, stored := calls[index], false
	for _, write := range calls {
		if !write.writes() || !strings.HasPrefix(write.file, folder+string(filepath.Separator)) ||
			!strings.Contains(write.text, marker) || write.begins < request.comes || write.comes > answer.begins {
			continue
		}
		stored = true
		for _, c := range calls {
			if c.syncs() && c.file == write.file && c.result == "0" && c.begins > write.comes && c.comes < answer.begins {
				return nil
			}
		}
	}
	if stored {
		return errNotSynced
	}
	return errNotStored
}

// The traces are cut from real ones.
func TestSyncedBeforeAnswer(t *testing.T) {
	const (
		request   = `7 read(14<TCP:[127.0.0.1:1->127.0.0.1:2]>, "PUT /v1/kv/abc HTTP/1.1\r\n", 4096) = 24`
		store     = `7 pwrite64(13</data/raft/raft.db>, "\3\0abc\0", 8, 12288) = 8`
		sync      = `7 fdatasync(13</data/raft/raft.db>) = 0`
		answer    = `7 write(14<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\r\n", 17) = 17`
		begin     = `8 fdatasync(13</data/raft/raft.db> <unfinished ...>`
		end       = `8 <... fdatasync resumed>)             = 0`
		failed    = `8 <... fdatasync resumed>)             = -1 EIO (Input/output error)`
		later     = `9 read(14<TCP:[127.0.0.1:1->127.0.0.1:2]> <unfinished ...>`
		arrives   = `9 <... read resumed>, "PUT /v1/kv/abc HTTP/1.1\r\n", 4096) = 24`
		other     = `7 fdatasync(13</data/raft/other>) = 0`
		elsewhere = `7 pwrite64(13</tmp/raft/raft.db>, "\3\0abc\0", 8, 12288) = 8`
	)
	for _, test := range []struct {
		name  string
		lines []string
		want  error
	}{
		{"all in order", []string{request, store, sync, answer}, nil},
		{"a sync in two lines", []string{request, store, begin, end, answer}, nil},
		{"a request in two lines", []string{later, arrives, store, sync, answer}, nil},
		{"no request", []string{store, sync, answer}, errNotArrived},
		{"no answer", []string{request, store, sync}, errNotAnswered},
		{"nothing stored", []string{request, sync, answer}, errNotStored},
		{"stored in another folder", []string{request, elsewhere, sync, answer}, errNotStored},
		{"stored before the request", []string{store, request, sync, answer}, errNotStored},
		{"stored after the answer", []string{request, answer, store, sync}, errNotStored},
		{"no sync", []string{request, store, answer}, errNotSynced},
		{"a sync of another file", []string{request, store, other, answer}, errNotSynced},
		{"a sync before", []string{request, sync, store, answer}, errNotSynced},
		{"a sync that began before", []string{request, begin, store, end, answer}, errNotSynced},
		{"a sync after", []string{request, store, answer, sync}, errNotSynced},
		{"a sync that ended after", []string{request, store, begin, answer, end}, errNotSynced},
		{"a sync that never ended", []string{request, store, begin, answer}, errNotSynced},
		{"a sync that failed", []string{request, store, begin, failed, answer}, errNotSynced},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := parseTrace(strings.Join(test.lines, "\n"))
			if err := syncedBeforeAnswer(calls, "abc", "/data"); !errors.Is(err, test.want) {
				t.Errorf("err = %v, want %v", err, test.want)
			}
		})
	}
}
