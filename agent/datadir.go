package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// Names in the data directory.
const (
	formatFile = "format"
	lockFile   = "lock"
	nodeIDFile = "node-id"
	raftFolder = "raft"
	// archiveFile is never whole: what is restored goes into the log.
	archiveFile = "archive"
)

// halfWritten is what follows the name of a file until it is whole.
const halfWritten = ".*.tmp"

// diskFormat is what the format file says: the layout of everything beside it.
const diskFormat = "muster 1\n"

// dataDir is a data directory that this agent holds the lock of.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if it is missing, and refuses one that is not
// Muster's, that another agent uses, or that cannot be written. Nothing is
// changed in a directory that is refused.
func openDataDir(path string) (*dataDir, error) {
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	if err := checkFormat(path); err != nil {
		return nil, err
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock}
	if err := errors.Join(d.removeHalfWritten(), d.writeFormat()); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write to the data directory %s: %w", path, err), d.close())
	}
	return d, nil
}

// PhraseServersData warns of a client agent whose data directory is that of a server.
const PhraseServersData = "this agent is a client, and its data directory has the state of a server, which is left as it is and not read. " +
	"To have the server back, start it with server = true (-server)"

// hasServer reports whether the directory has the state of a server.
func (d *dataDir) hasServer() bool {
	_, err := os.Stat(filepath.Join(d.path, raftFolder))
	return err == nil
}

// makeDir makes a directory and those above it that are missing, so that they
// outlast a crash of the machine as what is synced inside of them does.
func makeDir(path string) error {
	var above []string
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(dir))
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, dir := range above {
		// Who may make something in a folder may still not be allowed to open it.
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// checkFormat reads the format file. A directory without one must hold nothing
// but what people may put there before the first start.
func checkFormat(path string) error {
	b, err := os.ReadFile(filepath.Join(path, formatFile))
	if err == nil {
		if string(b) == diskFormat {
			return nil
		}
		return fmt.Errorf("the data directory %s has the format %q, this Muster reads %q: use the Muster that wrote it, or another data directory",
			path, strings.TrimSpace(string(b)), strings.TrimSpace(diskFormat))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the data directory: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("cannot read the data directory: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case nodeIDFile, lockFile, "lost+found":
			continue
		}
		if isHalfWritten(e.Name()) {
			continue
		}
		if looksLikeConsul(path) {
			return fmt.Errorf("the data directory %s is Consul's, which Muster cannot read and does not touch: "+
				"give Muster a data directory of its own, and move the data over the API (for keys: kv export there, kv import here)", path)
		}
		return fmt.Errorf("the data directory %s is not empty and not Muster's (it has %q, but no file %q): use an empty one", path, e.Name(), formatFile)
	}
	return nil
}

// looksLikeConsul reports whether a directory has what a Consul agent leaves.
func looksLikeConsul(path string) bool {
	for _, name := range []string{"checkpoint-signature", "serf/local.snapshot", "serf/local.keyring", "raft/raft.db", "raft/wal", "server_metadata.json"} {
		if _, err := os.Stat(filepath.Join(path, filepath.FromSlash(name))); err == nil {
			return true
		}
	}
	return false
}

// lockDir takes the lock of the directory, which the kernel lets go of when the
// process ends, however it ends.
func lockDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the data directory: %w", err)
	}
	deadline := time.Now().Add(lockLimit)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", name, err), f.Close())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the data directory %s is in use by another agent, which holds %s", path, name), f.Close())
		}
		timer := time.NewTimer(lockRetry)
		<-timer.C
	}
}

// isHalfWritten reports whether a name is that of a file that [dataDir.write] was
// kept from finishing, or of an archive that was under way when the agent died.
func isHalfWritten(name string) bool {
	for _, of := range []string{formatFile, nodeIDFile, seenFile, archiveFile} {
		if matched, _ := filepath.Match(of+halfWritten, name); matched {
			return true
		}
	}
	return false
}

// removeHalfWritten removes what a crash left of files that were being written.
func (d *dataDir) removeHalfWritten() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isHalfWritten(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Name())))
		}
	}
	return err
}

func (d *dataDir) writeFormat() error {
	if _, err := os.Stat(filepath.Join(d.path, formatFile)); err == nil {
		return nil
	}
	return d.write(formatFile, []byte(diskFormat), 0o644)
}

// write puts a file in place whole and lasting: a crash leaves it or nothing.
func (d *dataDir) write(name string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(d.path, name+halfWritten)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(d.path)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// nodeID returns the node's ID: the configured one, else the one that was kept,
// else one that is made. It is kept at once if there is no data of a server yet. Data
// without an ID is not given a new one: its server could never lead again.
func (d *dataDir) nodeID(configured string, made func() (string, error)) (string, error) {
	path := filepath.Join(d.path, nodeIDFile)
	kept, err := d.keptNodeID()
	if err != nil {
		return "", fmt.Errorf("cannot read the node ID: %w", err)
	}
	_, err = os.Stat(filepath.Join(d.path, raftFolder))
	fresh := errors.Is(err, fs.ErrNotExist)
	id := configured
	switch {
	case configured != "":
	case kept != "" && !validUUID(kept):
		return "", fmt.Errorf("the file %s holds %q, which is not a UUID: correct it, or remove it if this node was never part of a cluster", path, kept)
	case kept != "":
		id = kept
	case fresh:
		if id, err = made(); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("the file %s is missing, but there is data of a server in %s: put the server's ID into the file or into node_id, or use another data directory", path, filepath.Join(d.path, raftFolder))
	}
	if fresh {
		return id, d.keepNodeID(id)
	}
	return id, nil
}

// keptNodeID is what the file of the node's ID holds, in lower case, or nothing.
func (d *dataDir) keptNodeID() (string, error) {
	b, err := os.ReadFile(filepath.Join(d.path, nodeIDFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(string(b))), nil
}

// keepNodeID keeps the node's ID for the next start.
func (d *dataDir) keepNodeID(id string) error {
	if kept, err := d.keptNodeID(); err == nil && kept == id {
		return nil
	}
	if err := d.write(nodeIDFile, []byte(id), 0o600); err != nil {
		return fmt.Errorf("cannot keep the node ID in %s: %w", filepath.Join(d.path, nodeIDFile), err)
	}
	return nil
}

func (d *dataDir) close() error { return d.lock.Close() }

// newUUID returns a random UUID (RFC 9562 §5.4).
func newUUID() string {
	b := randomUUID()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newClusterID returns a random UUID for a cluster.
func newClusterID() state.ClusterID { return randomUUID() }

func randomUUID() (b [16]byte) {
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}

func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", c) {
			return false
		}
	}
	return true
}
