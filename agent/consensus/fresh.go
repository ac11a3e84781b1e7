package consensus

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// freshFile marks a Raft folder whose server votes in no election. It holds
	// the nonce.
	freshFile = "fresh"
	// maxNonceBytes is the most that is read of it.
	maxNonceBytes = 256
	// promiseFile holds what the server promised before it had a configuration.
	promiseFile = "promise"
	// maxPromiseBytes bounds that, in bytes: it names the servers of a first
	// configuration, of which there are a handful.
	maxPromiseBytes = 64 << 10
)

// freshness is the mark of a server that has no memory of earlier elections: it
// may have voted, or stored entries, before its folder was lost. It takes part
// in no election, and counts in no quorum, until a leader admits it as a member
// that was never there before.
type freshness struct {
	dir string // empty keeps the mark in memory

	mu      sync.Mutex
	nonce   string // empty if the server is not fresh
	promise []byte // nil if there is none
}

// markFresh marks a folder that is being made.
func markFresh(dir string) error {
	return writeFile(dir, freshFile, []byte(rand.Text()+"\n"))
}

// readFreshness reads the mark of a folder.
func readFreshness(dir string) (*freshness, error) {
	f := &freshness{dir: dir}
	if dir == "" {
		f.nonce = rand.Text()
		return f, nil
	}
	path := filepath.Join(dir, freshFile)
	data, err := readLimited(path, maxNonceBytes)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read the mark of a fresh server: %w", err)
	}
	if f.promise, err = readLimited(filepath.Join(dir, promiseFile), maxPromiseBytes); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read what this server promised before it was part of a cluster: %w", err)
	}
	// The name alone is the mark. A nonce that a crash has cut off is made anew:
	// nobody was told the old one.
	if f.nonce = strings.TrimSpace(string(data)); f.nonce == "" {
		if err := markFresh(dir); err != nil {
			return nil, fmt.Errorf("cannot mark a fresh server: %w", err)
		}
		return readFreshness(dir)
	}
	return f, nil
}

func (f *freshness) get() (nonce string, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nonce, f.nonce != ""
}

// clear removes the mark, on disk first.
func (f *freshness) clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nonce == "" {
		return nil
	}
	if f.dir != "" {
		// The promise last: it holds for as long as the mark is there.
		for _, name := range []string{freshFile, promiseFile} {
			if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := syncFolder(f.dir); err != nil {
			return err
		}
	}
	f.nonce, f.promise = "", nil
	return nil
}

// keep keeps a promise, on disk first.
func (f *freshness) keep(promise []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.nonce == "":
		return ErrNotFresh
	case len(promise) > maxPromiseBytes:
		return fmt.Errorf("a promise has %d bytes, at most %d are possible", len(promise), maxPromiseBytes)
	}
	if f.dir != "" {
		if err := writeFile(f.dir, promiseFile, promise); err != nil {
			return err
		}
	}
	f.promise = bytes.Clone(promise)
	return nil
}

// Promise returns what KeepPromise kept last, or nil.
func (n *Node) Promise() []byte {
	n.fresh.mu.Lock()
	defer n.fresh.mu.Unlock()
	return n.fresh.promise
}

// KeepPromise keeps what this server promised to others about the first
// configuration, for as long as it is fresh: a restart does not lose it. What is
// in it is the caller's to know. Its error is ErrNotFresh if the server is not.
func (n *Node) KeepPromise(promise []byte) error {
	if err := n.fresh.keep(promise); err != nil {
		return fmt.Errorf("cannot keep a promise: %w", err)
	}
	return nil
}

// Fresh reports whether this server votes in no election, because its Raft
// folder was made empty and nobody has admitted it since, and returns the nonce
// that [Node.Admit] wants. What it had promised under the same ID before, if
// anything, it does not know.
func (n *Node) Fresh() (nonce string, fresh bool) { return n.fresh.get() }

// Admit ends what Fresh tells of. The leader says so, when this server is no
// voter of its configuration and has caught up, and makes it a voter
// afterwards. The nonce names the folder that is meant, so that a late message
// admits no later one.
func (n *Node) Admit(nonce string) error {
	have, fresh := n.fresh.get()
	switch {
	case !fresh:
		return nil
	case have != nonce:
		return fmt.Errorf("%w: it was made anew since", ErrOtherFolder)
	}
	if err := n.fresh.clear(); err != nil {
		return fmt.Errorf("cannot admit this server to elections: %w", err)
	}
	n.cfg.Logger.Info("this server may vote from now on")
	return nil
}

// ErrNotFresh says that a server is part of a cluster, or was.
var ErrNotFresh = errors.New("this server is not fresh")

// ErrOtherFolder says that a server was to be admitted to elections with a Raft
// folder that it no longer has.
var ErrOtherFolder = errors.New("the Raft folder is not the one that was meant")
