package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// peersFile, if it is there when the node is opened, replaces the
	// configuration.
	peersFile = "peers.json"
	// peersInfo explains that.
	peersInfo = "peers.info"
	// maxPeersBytes is the most that is read of a peers file.
	maxPeersBytes = 1 << 20
	// maxPeers is how many servers a peers file may name. More voters than a
	// handful make a cluster slower, not safer.
	maxPeers = 1000
)

// aboutPeers is what peersInfo says.
const aboutPeers = `A cluster that has lost most of its voting servers for good cannot elect a leader.
To let the servers that are left go on, stop all of them, write the same file

    peers.json

into this folder on each, and start them again. It names the servers of the new
cluster, this one among them:

    [
      {"id": "adf4238a-882b-9ddc-4a9d-5b6758e4159e", "address": "10.1.0.1:8300", "non_voter": false},
      {"id": "8b6dda82-3103-11e7-93ae-92361f002671", "address": "10.1.0.2:8300", "non_voter": false}
    ]

"id" is the server's node ID, as the file node-id of its data directory holds it.
"address" is read, for files that were written for other servers, and not kept:
addresses are found anew. "non_voter" may be left out.

The file is applied once, and then removed. All that is in the log of this server
counts as committed from then on; what only the lost servers had is lost. Start
first the server whose log is the longest:

    muster operator raft recover

shows what each has, without changing anything.
`

// peersEntry is a server in a peers file.
type peersEntry struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	NonVoter bool   `json:"non_voter"`
}

// ReadPeersFile reads the servers of a peers file. Its errors name the file and
// what is wrong in it.
func ReadPeersFile(path string) ([]Peer, error) {
	data, err := readLimited(path, maxPeersBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read the peers file: %w", err)
	}
	peers, err := parsePeers(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the peers file %s: %w", path, err)
	}
	return peers, nil
}

// parsePeers reads the text of a peers file.
func parsePeers(data []byte) ([]Peer, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("it is not a JSON array of servers: %w", err)
	}
	if len(raw) > maxPeers {
		return nil, fmt.Errorf("it names %d servers, %d are possible", len(raw), maxPeers)
	}
	peers := make([]Peer, 0, len(raw))
	for i, text := range raw {
		var entry peersEntry
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&entry); err != nil {
			return nil, fmt.Errorf(`server %d of it is not an object like {"id": …, "address": …, "non_voter": false}: %w`, i+1, err)
		}
		if entry.ID == "" {
			return nil, fmt.Errorf("server %d of it (address %q) has no id: write its node ID there", i+1, entry.Address)
		}
		peers = append(peers, Peer{ID: entry.ID, Voter: !entry.NonVoter})
	}
	return peers, checkPeers(peers)
}

// checkPeers checks that servers can be a configuration.
func checkPeers(peers []Peer) error {
	seen := make(map[string]bool)
	voters := 0
	for _, peer := range peers {
		switch {
		case peer.ID == "":
			return errors.New("it has a server without an ID")
		case seen[peer.ID]:
			return fmt.Errorf("it names server %q twice", peer.ID)
		}
		seen[peer.ID] = true
		if peer.Voter {
			voters++
		}
	}
	if voters == 0 {
		return errors.New("it names no server that votes")
	}
	return nil
}

// explainPeers writes what a peers file is, once.
func explainPeers(dir string) error {
	_, err := os.Stat(filepath.Join(dir, peersInfo))
	if errors.Is(err, os.ErrNotExist) {
		err = writeFile(dir, peersInfo, []byte(aboutPeers))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Join(dir, peersInfo), err)
	}
	return nil
}
