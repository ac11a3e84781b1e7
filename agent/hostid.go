package agent

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
)

// makeNodeID returns an ID for a node that has none: a random one, or with
// disable_host_node_id = false one that this machine always gets.
func (a *Agent) makeNodeID() (string, error) {
	if !a.config.HostNodeID {
		return newUUID(), nil
	}
	return hostNodeID(machineIDs(), a.logger.Info)
}

// hostNodeID derives a node's ID from the first of some IDs of the machine that
// is one. It does not tell that ID, which the machine may want to keep to itself.
func hostNodeID(ids []machineID, say func(string, ...any)) (string, error) {
	for _, id := range ids {
		text := strings.ToLower(strings.TrimSpace(id.text))
		if len(text) == 32 { // as systemd writes it
			text = text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
		}
		if !validUUID(text) || strings.Trim(text, "0-") == "" || strings.Trim(text, "f-") == "" {
			continue // firmware that was never given one
		}
		say("The node's ID is derived from the machine's", "from", id.from)
		sum := sha512.Sum512([]byte(text))
		return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]), nil
	}
	return "", errors.New("disable_host_node_id = false, but this machine has no ID of its own to derive the node's from: configure node_id, or leave the setting out")
}

// machineID is an ID of the machine, and where it was found.
type machineID struct{ from, text string }
