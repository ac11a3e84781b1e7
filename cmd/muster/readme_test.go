package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tourLimit is how long one block of the README may take.
const tourLimit = time.Minute

// block is a fenced block of commands, with the output that stands below it.
type block struct {
	line     int
	commands string
	output   string
	shown    bool // whether there is an output to compare
}

// The README's commands do what it says. They run as they stand, in one shell and
// in their order, except that ports are those of this test and that the binary
// stands for building it every time.
func TestREADME(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the README uses %s, which is not on this machine", tool)
		}
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := readBlocks(t, string(text))
	if len(blocks) < 2 {
		t.Fatalf("the README has %d blocks of commands", len(blocks))
	}
	const start = "go run ./cmd/muster agent -dev\n"
	if blocks[0].commands != start {
		t.Fatalf("the first block of the README is %q, want %q", blocks[0].commands, start)
	}
	tour := newTour(t)
	s := &settings{dir: t.TempDir(), ports: tour.ports, extra: "# nothing but ports"}
	if err := os.WriteFile(s.file(), []byte(fmt.Sprintf("ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = %d }",
		s.ports.http, s.ports.dns, s.ports.server, s.ports.lan, s.ports.wan)), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, s, "-dev")
	for _, b := range blocks[1:] {
		output := tour.run(t, b)
		if want := tour.translate(b.output); b.shown && output != want {
			t.Errorf("README line %d: the commands\n%sprint\n%s\nbut the README says\n%s", b.line, b.commands, output, want)
		}
	}
}

// readBlocks finds the blocks of shell commands, and below some of them a block
// of text with their output.
func readBlocks(t *testing.T, text string) []block {
	t.Helper()
	var blocks []block
	language, content := "", ""
	inside := false
	for i, line := range strings.SplitAfter(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !inside:
			inside, language, content = true, strings.TrimSpace(fence), ""
			if language == "sh" {
				blocks = append(blocks, block{line: i + 1})
			}
		case isFence:
			inside = false
			last := len(blocks) - 1
			switch {
			case language == "sh":
				blocks[last].commands = content
			case language == "text" && last < 0:
				t.Fatalf("README line %d: an output without commands", i+1)
			case language == "text":
				blocks[last].output, blocks[last].shown = content, true
			}
		case inside:
			content += line
		}
	}
	return blocks
}

// tour is the shell that the commands of the README run in.
type tour struct {
	ports    ports
	replacer *strings.Replacer
	shell    *exec.Cmd
	in       io.Writer
	out      *lockedBuffer
	err      *lockedBuffer
	ended    chan struct{} // closed when the shell is gone
}

// newTour starts a shell at the top of the source.
func newTour(t *testing.T) *tour {
	t.Helper()
	own, web := freePorts(t), freePorts(t)
	// The agents of the cluster have the same ports, each at its own address.
	inside := fmt.Sprintf(" -hcl='ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = -1 }' -bind=", own.http, own.dns, own.server, own.lan)
	scratch := t.TempDir()
	if err := os.MkdirAll(filepath.Join(scratch, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	tour := &tour{
		ports: own,
		// The service's ports are put in order, because the README sorts by them.
		replacer: strings.NewReplacer(
			"go run ./cmd/muster", binary(t),
			"go build -o bin/muster ./cmd/muster", "cp "+binary(t)+" "+scratch+"/bin/muster",
			"bin/muster", scratch+"/bin/muster",
			"/tmp/muster-tour", scratch+"/tour", " -bind=", inside,
			"8500", strconv.Itoa(own.http), "8600", strconv.Itoa(own.dns),
			"9001", strconv.Itoa(min(web.http, web.dns)), "9002", strconv.Itoa(max(web.http, web.dns)),
		),
		out:   &lockedBuffer{},
		err:   &lockedBuffer{},
		ended: make(chan struct{}),
	}
	tour.shell = exec.Command("sh", "-e")
	tour.shell.Dir = "../.."
	tour.shell.Env = append(os.Environ(), fmt.Sprintf("MUSTER_HTTP_ADDR=127.0.0.1:%d", own.http))
	tour.shell.Stdout, tour.shell.Stderr = tour.out, tour.err
	tour.shell.WaitDelay = time.Second // a server that outlives the shell holds its output open
	in, err := tour.shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	tour.in = in
	if err := tour.shell.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = tour.shell.Wait() // a shell that gives up is noticed by what it did not print
		close(tour.ended)
	}()
	t.Cleanup(func() {
		_, _ = io.WriteString(in, "kill $first $second 2>/dev/null || true\nkill $(cat "+scratch+"/tour/*.pid 2>/dev/null) 2>/dev/null || true\n")
		_ = in.Close()
		<-tour.ended
	})
	return tour
}

func (o *tour) translate(text string) string { return o.replacer.Replace(text) }

// run gives a block to the shell, and returns what it prints.
func (o *tour) run(t *testing.T, b block) string {
	t.Helper()
	before := len(o.out.String())
	end := fmt.Sprintf("end of the block of line %d", b.line)
	if _, err := io.WriteString(o.in, o.translate(b.commands)+"\necho\necho "+end+"\n"); err != nil {
		t.Fatalf("README line %d: %v\n%s", b.line, err, o.err)
	}
	var output string
	eventually(t, tourLimit, fmt.Sprintf("the commands of README line %d end", b.line), func(context.Context) error {
		var ended bool
		output, ended = strings.CutSuffix(o.out.String()[before:], "\n"+end+"\n")
		if ended {
			return nil
		}
		select {
		case <-o.ended:
			t.Fatalf("README line %d: a command failed:\n%s", b.line, o.err)
		default:
		}
		return fmt.Errorf("standard error so far: %s", o.err)
	})
	// An answer without an end of line, as of curl, is followed by the prompt.
	if output != "" && !strings.HasSuffix(output, "\n") {
		output += "\n"
	}
	return output
}
