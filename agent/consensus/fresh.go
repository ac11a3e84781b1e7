package consensus

import (
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
)

// freshness is the mark of a server that has no memory of earlier elections: it
// may have voted, or stored entries, before its folder was lost. It takes part
// in no election, and counts in no quorum, until a leader admits it as a member
// that was never there before.
type freshness struct {
	dir string // empty keeps the mark in memory

	mu    sync.Mutex
	nonce string // empty if the server is not fresh
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
		if err := os.Remove(filepath.Join(f.dir, freshFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := syncFolder(f.dir); err != nil {
			return err
		}
	}
	f.nonce = ""
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

// ErrOtherFolder says that a server was to be admitted to elections with a Raft
// folder that it no longer has.
var ErrOtherFolder = errors.New("the Raft folder is not the one that was meant")
