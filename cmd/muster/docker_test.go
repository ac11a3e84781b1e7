package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// dockerLimit is how long one command of Docker may take; building compiles
	// everything anew.
	dockerLimit = 10 * time.Minute
	// pullLimit is how long the base image may take to arrive.
	pullLimit = 3 * time.Minute
	// healthyLimit is how long a container may take to call itself healthy: some
	// of the intervals that the Dockerfile sets.
	healthyLimit = time.Minute
)

// The image builds, runs without rights, finds itself healthy, and keeps its
// data in its volume.
func TestDocker(t *testing.T) {
	if testing.Short() {
		t.Skip("building an image takes minutes")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("there is no docker command on this machine")
	}
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Skipf("there is no Docker engine at hand: %s", lastLine(out))
	}
	image := fmt.Sprintf("muster-test:%d", time.Now().UnixNano())
	docker(t, "build", "--tag="+image, "--build-arg=BASE="+baseImage(t), "../..")
	t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", "--force", image).Run() })

	t.Run("development", func(t *testing.T) {
		id := startContainer(t, image, "agent", "-dev", "-client=0.0.0.0")
		awaitHealthy(t, id)
		docker(t, "exec", id, "/muster", "kv", "put", "greeting", "hello")
		if got := docker(t, "exec", id, "/muster", "kv", "get", "greeting"); got != "hello" {
			t.Errorf("the key holds %q", got)
		}
		user, _, _ := strings.Cut(docker(t, "inspect", "--format={{.Config.User}}", id), ":")
		if user == "" || user == "0" || user == "root" {
			t.Errorf("the container runs as %q, want a user without rights", user)
		}
	})
	t.Run("as it comes", func(t *testing.T) {
		id := startContainer(t, image)
		awaitHealthy(t, id)
		docker(t, "exec", id, "/muster", "kv", "put", "greeting", "hello")
		docker(t, "restart", id)
		awaitHealthy(t, id)
		eventually(t, readyLimit, "the agent knows a leader again", func(context.Context) error {
			return exec.Command("docker", "exec", id, "/muster", "health", "-leader").Run()
		})
		if got := docker(t, "exec", id, "/muster", "kv", "get", "greeting"); got != "hello" {
			t.Errorf("the key holds %q after a restart", got)
		}
	})
}

// docker runs one command and returns what it prints.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), dockerLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).Output()
	if err != nil {
		message := ""
		if exit, ok := err.(*exec.ExitError); ok {
			message = string(exit.Stderr)
		}
		t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, message)
	}
	return strings.TrimSpace(string(out))
}

// startContainer starts a container that goes, with its volume, when the test
// ends.
func startContainer(t *testing.T, image string, args ...string) (id string) {
	t.Helper()
	id = docker(t, append([]string{"run", "--detach", image}, args...)...)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", id).CombinedOutput()
			t.Logf("log of the container:\n%s", out)
		}
		_ = exec.Command("docker", "rm", "--force", "--volumes", id).Run()
	})
	return id
}

// awaitHealthy waits until the container's own check passes.
func awaitHealthy(t *testing.T, id string) {
	t.Helper()
	eventually(t, healthyLimit, "the container is healthy", func(context.Context) error {
		if state := docker(t, "inspect", "--format={{.State.Status}} {{.State.Health.Status}}", id); state != "running healthy" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
}

// baseImage is an image to compile in: the one that the Dockerfile names where
// it can be had, or else one made of this machine's own tools.
func baseImage(t *testing.T) string {
	t.Helper()
	const usual = "golang:1.26"
	if exec.Command("docker", "image", "inspect", usual).Run() == nil {
		return usual
	}
	ctx, cancel := context.WithTimeout(context.Background(), pullLimit)
	defer cancel()
	if exec.CommandContext(ctx, "docker", "pull", usual).Run() == nil {
		return usual
	}
	t.Logf("%s cannot be pulled: importing the tools of this machine", usual)
	return importBase(t)
}

// importBase makes an image of the Go toolchain, a shell with what the Dockerfile
// calls, and the modules that were already fetched.
func importBase(t *testing.T) string {
	t.Helper()
	root, modules := goEnv(t, "GOROOT"), filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")
	files := []string{root, modules}
	for _, tool := range []string{"/bin/sh", "/bin/mkdir", "/bin/chmod"} {
		files = append(files, tool)
		libraries, err := exec.Command("ldd", tool).Output()
		if err != nil {
			t.Skipf("no image to compile in: cannot tell the libraries of %s on %s: %v", tool, runtime.GOOS, err)
		}
		for _, word := range strings.Fields(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
	}
	const name = "muster-test-base:local"
	path := filepath.Join(root, "bin") + ":/bin"
	slices.Sort(files) // tools share libraries, and a file packed twice would become a link to itself
	files = slices.Compact(files)
	archive := exec.Command("tar", append([]string{"--create", "--dereference", "--hard-dereference", "--absolute-names"}, files...)...)
	load := exec.Command("docker", "import",
		"--change=ENV PATH="+path, "--change=ENV GOTOOLCHAIN=local",
		"--change=ENV GOPROXY=file://"+modules, "--change=ENV GOCACHE=/gocache", "--change=ENV GOMODCACHE=/gomodules",
		"--change=ENV GOTMPDIR="+root, // there is no /tmp
		"-", name)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	load.Stdin = pipe
	if err := archive.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := load.CombinedOutput()
	if err != nil {
		_ = archive.Process.Kill()
		_ = archive.Wait()
		t.Fatalf("cannot import a base image: %v\n%s", err, out)
	}
	if err := archive.Wait(); err != nil {
		t.Fatalf("cannot pack a base image: %v", err)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", "--force", name).Run() })
	return name
}

// goEnv is a setting of the Go toolchain.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// lastLine is the last line of an output that is not empty.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
