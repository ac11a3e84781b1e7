package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

func raftCommand() *command {
	return &command{
		name:     "raft",
		summary:  "See and change which servers take part in Raft",
		examples: []example{{"Who takes part", "muster operator raft list-peers"}},
		children: []*command{
			{
				name:    "list-peers",
				summary: "List the servers that take part in Raft",
				details: `The last columns tell how much of the log each server is known to have, and
how far it is behind the leader. With -stale any server answers from what it
knows, which is the way to look when there is no leader. Servers that do not run
are listed as followers all the same; a warning names them.`,
				examples: []example{
					{"Who takes part, and who is behind", "muster operator raft list-peers"},
					{"Without a leader", "muster operator raft list-peers -stale"},
				},
				new: func() runner { return &listPeersRunner{} },
			},
			recoverCommand(),
			{
				name:    "remove-peer",
				summary: "End the part of a server in Raft",
				details: `For a server that is gone for good and is listed still. One that is only down
comes back by itself and needs nothing. A server that runs, and was removed,
must be stopped before it can join again.`,
				examples: []example{
					{"By its ID, as list-peers shows it", "muster operator raft remove-peer -id=f1bd9fd6-d17a-4d6e-b5ec-ab1c2e2b3a6c"},
					{"By its address", "muster operator raft remove-peer -address=10.0.0.3:8300"},
				},
				new: func() runner { return &removePeerRunner{} },
			},
			{
				name:    "transfer-leader",
				summary: "Let the leader hand over to another server",
				details: `Without -id to the follower that has most of the log. Takes a moment in which
there is no leader; writes wait for it.`,
				examples: []example{{"Before the leader's machine is restarted", "muster operator raft transfer-leader"}},
				new:      func() runner { return &transferLeaderRunner{} },
			},
		},
	}
}

// noServerAnswersAdvice is said when no server answered what each could.
const noServerAnswersAdvice = `No server answered this agent, though any could have. "muster members" shows whom
it knows. Start the servers, or ask one that runs by -http-addr. If a majority is
lost for good, see "muster operator raft recover -h".
`

type listPeersRunner struct{ connection connection }

func (r *listPeersRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
}

func (r *listPeersRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	known, err := client.Operator().RaftGetConfiguration(r.connection.query())
	if err != nil {
		err = fmt.Errorf("cannot list the servers: %w", err)
		// Any server may answer with -stale, without a leader, so that there is none
		// is not why.
		if r.connection.query().AllowStale && strings.Contains(err.Error(), noLeader) {
			return advised{err, noServerAnswersAdvice}
		}
		return err
	}
	rows := [][]string{{"Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"}}
	for _, s := range known.Servers {
		state := "follower"
		if s.Leader {
			state = "leader"
		}
		rows = append(rows, []string{s.Node, s.ID, s.Address, state, strconv.FormatBool(s.Voter), s.ProtocolVersion,
			strconv.FormatUint(s.LastIndex, 10), trails(s, known.Servers)})
	}
	printTable(streams.out, rows, tableGap)
	if gone := notAlive(client, known.Servers); r.connection.query().Datacenter == "" && len(gone) > 0 {
		fmt.Fprintf(streams.err, "Warning: as the agent that was asked sees it, these do not run: %s\n", strings.Join(gone, ", "))
	}
	return nil
}

// notAlive names the servers that are no members that live, as the agent sees it: the
// table has but leaders and followers.
func notAlive(client *api.Client, servers []*api.RaftServer) (gone []string) {
	members, err := client.Agent().Members(false)
	if err != nil {
		return nil
	}
	status := map[string]string{}
	for _, m := range members {
		if id := m.Tags["id"]; status[id] != "alive" {
			status[id] = statusName(m.Status)
		}
	}
	for _, s := range servers {
		switch now, ok := status[s.ID]; {
		case !ok:
			gone = append(gone, fmt.Sprintf("%s (no member)", s.ID))
		case now != "alive":
			gone = append(gone, fmt.Sprintf("%s (%s)", s.Node, now))
		}
	}
	return gone
}

// trails says how far a server is behind the leader, as far as that is known.
func trails(s *api.RaftServer, all []*api.RaftServer) string {
	if s.Leader {
		return "-"
	}
	for _, leader := range all {
		if !leader.Leader {
			continue
		}
		// A follower that is asked with -stale does not know how far others are.
		if leader.LastIndex == 0 {
			break
		}
		switch behind := leader.LastIndex - min(s.LastIndex, leader.LastIndex); behind {
		case 1:
			return "1 commit"
		default:
			return fmt.Sprintf("%d commits", behind)
		}
	}
	return "unknown"
}

// whoCanLead names the servers that can lead, as far as an agent tells.
func whoCanLead(client *api.Client, q *api.QueryOptions) string {
	known, err := client.Operator().RaftGetConfiguration(q)
	if err != nil {
		return fmt.Sprintf("Which servers there are is not known either: %v", err)
	}
	var voters []string
	for _, s := range known.Servers {
		if s.Voter {
			voters = append(voters, fmt.Sprintf("%s (%s)", s.ID, s.Node))
		}
	}
	return "The servers with a vote are " + strings.Join(voters, ", ")
}

type removePeerRunner struct {
	connection  connection
	id, address string
}

func (r *removePeerRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.id, "id", "", "The `ID` of the server.")
	flags.StringVar(&r.address, "address", "", "Its `address` instead, as host:port.")
}

func (r *removePeerRunner) run(streams streams, _ []string) error {
	if (r.id == "") == (r.address == "") {
		return errors.New("exactly one of -id and -address must name the server")
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	how, name, remove := "address", r.address, client.Operator().RaftRemovePeerByAddress
	if r.id != "" {
		how, name, remove = "id", r.id, client.Operator().RaftRemovePeerByID
	}
	if err := remove(name, nil); err != nil {
		return fmt.Errorf("cannot remove the server with %s %q: %w", how, name, err)
	}
	fmt.Fprintf(streams.out, "Removed peer with %s %q\n", how, name)
	return nil
}

type transferLeaderRunner struct {
	connection connection
	id         string
}

func (r *transferLeaderRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.id, "id", "", "The `ID` of the server that is to lead. Default: the one that has most of the log.")
}

func (r *transferLeaderRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	done, err := client.Operator().RaftLeaderTransfer(r.id, r.connection.query())
	switch {
	case err != nil && strings.Contains(err.Error(), "Could not find address for server id"):
		return fmt.Errorf("cannot hand over: %w. %s", err, whoCanLead(client, r.connection.query()))
	case err != nil:
		return fmt.Errorf("cannot hand over: %w", err)
	case !done.Success:
		return errors.New("cannot hand over: the leader did not, and does not say why")
	}
	fmt.Fprintln(streams.out, "Success")
	return nil
}
