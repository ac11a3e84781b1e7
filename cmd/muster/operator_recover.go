package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
)

func recoverCommand() *command {
	return &command{
		name:      "recover",
		summary:   "Let the servers that are left go on when a quorum is lost for good",
		arguments: "<data folder>...",
		fewest:    1,
		most:      -1,
		details: `For when so many servers are gone for good that the others cannot elect a
leader. Never needed while a majority can be started: they find each other.

Needs no agent. Stop all servers that are left, and name the data folder
(data_dir) of each, or a copy that was made after the stop; a folder without the
file node-id is named as <node ID>=<folder>. Prints how much of the log each one
has, which one is to go on, what may be lost by that, and what to do, step by
step. Nothing is changed without -write, and with it only one file is written:
peers.json in the folder of the server that is to go on. It is applied, once,
when that server starts. Remove it before, and nothing has happened.`,
		examples: []example{
			{"What there is, and what it means", "muster operator raft recover /mnt/srv1/data /mnt/srv2/data"},
			{"Let the one that was recommended go on", "muster operator raft recover -write /mnt/srv1/data /mnt/srv2/data"},
		},
		new: func() runner { return &recoverRunner{inspect: consensus.Inspect} },
	}
}

type recoverRunner struct {
	write   bool
	server  string
	inspect func(folder string) (consensus.Inspection, error)
}

func (r *recoverRunner) define(flags *flag.FlagSet) {
	flags.BoolVar(&r.write, "write", false, "Write peers.json for the server that is to go on.")
	flags.StringVar(&r.server, "server", "", "The node `ID` of the server that is to go on, instead of the recommended one.")
}

// storedServer is what is left of one server.
type storedServer struct {
	folder string // as it was named
	raft   string // the folder of the log in it
	id     string
	consensus.Inspection
	written time.Time // when its log was changed last; zero is unknown
	failed  error     // why it cannot be read
}

func (r *recoverRunner) run(streams streams, args []string) error {
	var servers []*storedServer
	for _, arg := range args {
		s := r.read(arg)
		if errors.Is(s.failed, consensus.ErrLocked) {
			return fmt.Errorf("the server of %s is running: stop it, and all others, before anything is decided: %w", s.folder, s.failed)
		}
		if i := slices.IndexFunc(servers, func(o *storedServer) bool { return s.id != "" && o.id == s.id }); i >= 0 {
			return fmt.Errorf("%s and %s both are of server %s: name the newer one only", servers[i].folder, s.folder, s.id)
		}
		servers = append(servers, s)
	}
	plan, err := newRecovery(servers, r.server)
	printStored(streams.out, servers, plan)
	if err != nil {
		return err
	}
	plan.explain(streams.out)
	if !r.write {
		plan.printSteps(streams.out, false)
		return nil
	}
	if err := plan.writePeers(); err != nil {
		return err
	}
	plan.printSteps(streams.out, true)
	return nil
}

// read looks at one folder.
func (r *recoverRunner) read(arg string) *storedServer {
	s := &storedServer{folder: arg}
	if id, folder, ok := strings.Cut(arg, "="); ok {
		if _, err := os.Stat(arg); err != nil {
			s.id, s.folder = id, folder
		}
	}
	s.raft = filepath.Join(s.folder, "raft")
	home := s.folder
	if _, err := os.Stat(s.raft); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(s.folder, "raft.db")); err == nil {
			s.raft, home = s.folder, filepath.Join(s.folder, "..")
		}
	}
	about, err := os.Stat(s.folder)
	switch {
	case err != nil:
		s.failed = err
	case !about.IsDir():
		s.failed = errors.New("it is no folder: name the data folder (data_dir) of a server")
	case s.id == "":
		s.id, s.failed = readNodeID(filepath.Join(home, "node-id"))
		if s.failed != nil && !errors.Is(s.failed, fs.ErrPermission) {
			s.failed = fmt.Errorf("%w: name it as <node ID>=%s", s.failed, s.folder)
		}
	}
	if s.failed != nil {
		s.failed = allowed(s.failed)
		return s
	}
	log := filepath.Join(s.raft, "raft.db")
	if about, err := os.Stat(log); err == nil {
		s.written = about.ModTime()
		if about.Size() == 0 {
			s.failed = fmt.Errorf("%s is empty: what it held is lost", log)
			return s
		}
	}
	s.Inspection, s.failed = r.inspect(s.raft)
	if errors.Is(s.failed, fs.ErrNotExist) {
		s.failed = fmt.Errorf("it is no server's data folder, or one whose log is gone: there is no %s", log)
	}
	s.failed = allowed(s.failed)
	return s
}

// allowed adds to an error about a file that may not be read who may.
func allowed(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run this command as root, or as the user that the server runs as", err)
	}
	return err
}

// readNodeID reads the ID that a server gave itself.
func readNodeID(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("its node ID is not known: %w", err)
	}
	defer file.Close()
	text, err := readLimited(file, maxNodeID)
	if err != nil {
		return "", fmt.Errorf("its node ID cannot be read from %s: %w", path, err)
	}
	id := strings.TrimSpace(string(text))
	if id == "" {
		return "", fmt.Errorf("its node ID is not known: %s is empty", path)
	}
	return id, nil
}

// recovery is what can be done with what is left.
type recovery struct {
	chosen *storedServer
	best   *storedServer
	// voters are those of the newest configuration that is left, and missing
	// those among them of which nothing can be read.
	voters  []string
	missing []string
	others  []*storedServer // of which something is left, beside the chosen one
}

// newRecovery decides which server is to go on: the one with the newest log, as
// in an election, or the one that was asked for.
func newRecovery(servers []*storedServer, id string) (*recovery, error) {
	p := &recovery{}
	newest := uint64(0)
	for _, s := range servers {
		if !s.usable() {
			continue
		}
		if p.best == nil || s.newerThan(p.best) {
			p.best = s
		}
		if id != "" && s.id == id {
			p.chosen = s
		}
		if len(s.Peers) > 0 && (p.voters == nil || s.PeersIndex > newest) {
			newest, p.voters = s.PeersIndex, votersOf(s.Peers)
		}
	}
	if p.best == nil && slices.ContainsFunc(servers, func(s *storedServer) bool { return s.failed != nil }) {
		return nil, errors.New("no server can go on: of these folders none that can be read has a log with anything in it, and others cannot be read, as said above; look for other copies, or restore a snapshot into a new cluster")
	}
	if p.best == nil {
		return nil, errors.New("no server can go on: none of these folders has a log with anything in it; look for other copies, or restore a snapshot into a new cluster")
	}
	if id == "" {
		p.chosen = p.best
	}
	if p.chosen == nil {
		return p, fmt.Errorf("the server %q cannot go on: it is none of those whose log can be read", id)
	}
	for _, s := range servers {
		if s != p.chosen {
			p.others = append(p.others, s)
		}
	}
	for _, id := range p.voters {
		if !slices.ContainsFunc(servers, func(s *storedServer) bool { return s.id == id && s.usable() }) {
			p.missing = append(p.missing, id)
		}
	}
	return p, nil
}

func votersOf(peers []consensus.Peer) []string {
	var ids []string
	for _, p := range peers {
		if p.Voter {
			ids = append(ids, p.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// usable reports whether a server has something to go on with. One that was made
// anew, and not admitted yet, may have lost what it promised before.
func (s *storedServer) usable() bool { return s.failed == nil && s.LastIndex > 0 && !s.Fresh }

// newerThan compares logs as an election does.
func (s *storedServer) newerThan(o *storedServer) bool {
	if s.LastTerm != o.LastTerm {
		return s.LastTerm > o.LastTerm
	}
	return s.LastIndex > o.LastIndex
}

// printStored lists what is left of each server.
func printStored(w io.Writer, servers []*storedServer, p *recovery) {
	rows := [][]string{{"Folder", "Node ID", "Last Term", "Last Index", "Snapshot Index", "Voter", "Last Written", "Remarks"}}
	for _, s := range servers {
		id := s.id
		if id == "" {
			id = "-"
		}
		if s.failed != nil {
			rows = append(rows, []string{s.folder, id, "-", "-", "-", "-", "-", "cannot be read, see below"})
			continue
		}
		rows = append(rows, []string{s.folder, id, strconv.FormatUint(s.LastTerm, 10), strconv.FormatUint(s.LastIndex, 10),
			strconv.FormatUint(s.SnapshotIndex, 10), yesNo(p.votes(s.id)), s.lastWritten(), p.remark(s)})
	}
	printTable(w, rows, tableGap)
	for _, s := range servers {
		if s.failed != nil {
			fmt.Fprintf(w, "\n%s cannot be read: %v\n", s.folder, s.failed)
		}
	}
	fmt.Fprintln(w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (s *storedServer) lastWritten() string {
	if s.written.IsZero() {
		return "-"
	}
	return s.written.UTC().Format(time.RFC3339)
}

func (p *recovery) votes(id string) bool { return p != nil && slices.Contains(p.voters, id) }

func (p *recovery) remark(s *storedServer) string {
	switch {
	case s.Fresh:
		return "empty when it was started last, not admitted since"
	case s.LastIndex == 0:
		return "empty"
	case p != nil && s == p.best && s == p.chosen:
		return "recommended"
	case p != nil && s == p.best:
		return "the newest log"
	case p != nil && s == p.chosen:
		return "chosen"
	}
	return ""
}

// quorum is how many voters elect a leader.
func (p *recovery) quorum() int { return len(p.voters)/2 + 1 }

// explain says what follows if the chosen server goes on alone.
func (p *recovery) explain(w io.Writer) {
	left := len(p.voters) - len(p.missing)
	fmt.Fprintf(w, "Server %s (%s) is to go on. Its last entry is %d, of term %d.\n\n", p.chosen.id, p.chosen.folder, p.chosen.LastIndex, p.chosen.LastTerm)
	fmt.Fprintf(w, "WHAT MAY BE LOST\n")
	switch {
	case len(p.voters) == 0:
		fmt.Fprintf(w, "These folders do not tell who took part, so nobody can say what is missing.\n")
	case left >= p.quorum() && p.chosen == p.best:
		fmt.Fprintf(w, "Nothing that was answered. The logs of %d of %d voters are here, which is a majority: every\n"+
			"write that was answered is in one of them, and the newest log has them all.\n"+
			"YOU MAY NOT NEED THIS: start those %d servers, and they elect a leader by themselves.\n", left, len(p.voters), left)
	default:
		fmt.Fprintf(w, "The logs of %d of %d voters are here, and %d would be a majority. Writes that were answered, and\n"+
			"that no server named here had yet received, are lost. Nothing here tells how many those are.\n", left, len(p.voters), p.quorum())
	}
	if p.chosen != p.best {
		fmt.Fprintf(w, "Server %s has a newer log, up to entry %d of term %d, and %s was chosen: what only the newer\n"+
			"one has is lost as well. Without -server the newest log is taken.\n", p.best.id, p.best.LastIndex, p.best.LastTerm, p.chosen.id)
	}
	fmt.Fprintf(w, "The last writes in its log count from then on, even if their clients were told that they failed.\n")
	if !p.votes(p.chosen.id) && len(p.voters) > 0 {
		fmt.Fprintf(w, "It was no voter itself, so it may have been behind the others for long.\n")
	}
	if len(p.missing) > 0 {
		fmt.Fprintf(w, "Missing: %s.\n", strings.Join(p.missing, ", "))
	}
	fmt.Fprintln(w)
}

// printSteps says what to do.
func (p *recovery) printSteps(w io.Writer, written bool) {
	if written {
		fmt.Fprintf(w, "WRITTEN: %s\n\n", p.peersPath())
	} else {
		fmt.Fprintf(w, "Nothing was written.\n\n")
	}
	fmt.Fprintf(w, "WHAT TO DO\n")
	steps := []string{
		"Keep a copy of every folder above.",
		"Make sure that no other server of this cluster runs, and that none of those that are missing ever\n" +
			"   starts again with its old data: together they could elect a leader of their own, beside this one.",
	}
	if !written {
		steps = append(steps, "Give this command again with -write. It writes "+p.peersPath()+",\n   which names this server alone.")
	}
	steps = append(steps, fmt.Sprintf("Start server %s. It leads, with all that is in its log.", p.chosen.id))
	others := "On each further server"
	for i, s := range p.others {
		others += map[bool]string{true: " (", false: ", "}[i == 0] + s.folder
	}
	if len(p.others) > 0 {
		others += ")"
	}
	steps = append(steps,
		others+" move the folder raft\n   away from the data folder, and start it with retry_join: it joins as a new one and gets the data.",
		"Look at the result: muster operator raft list-peers. Then save it: muster snapshot save.")
	for i, step := range steps {
		fmt.Fprintf(w, "%d. %s\n", i+1, step)
	}
}

func (p *recovery) peersPath() string { return filepath.Join(p.chosen.raft, "peers.json") }

// writePeers writes the file that makes the chosen server the only one when it
// starts. Anybody may read it: the agent runs as another user than this.
func (p *recovery) writePeers() error {
	text, err := json.MarshalIndent([]peerEntry{{ID: p.chosen.id}}, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot make peers.json: %w", err)
	}
	file, err := os.OpenFile(p.peersPath(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a %s already, which is applied when the server starts: look at it, and remove it to have another", p.peersPath())
	}
	if err != nil {
		return fmt.Errorf("cannot write peers.json: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = syncFolder(p.chosen.raft)
	}
	if err == nil {
		_, err = consensus.ReadPeersFile(p.peersPath())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", p.peersPath(), err), os.Remove(p.peersPath()))
	}
	return nil
}

// peerEntry is a server in peers.json.
type peerEntry struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	NonVoter bool   `json:"non_voter"`
}
