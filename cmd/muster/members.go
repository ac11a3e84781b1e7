package main

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// exitNoMembers is the exit code of members when nobody matches.
const exitNoMembers = exitStatus(2)

func membersCommand() *command {
	return &command{
		name:    "members",
		summary: "List the members of the cluster as the agent sees them",
		details: `Servers stand first. Exits with 2, and prints nothing, if no member matches.`,
		examples: []example{
			{"Everyone", "muster members"},
			{"Who is gone, with tags", "muster members -detailed -status='left|failed'"},
			{"Servers only", `muster members -filter='Tags.role == "consul"'`},
		},
		new: func() runner { return &membersRunner{} },
	}
}

type membersRunner struct {
	connection connection
	detailed   bool
	wan        bool
	filter     string
	status     string
	ignored    string
}

func (r *membersRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.BoolVar(&r.detailed, "detailed", false, "Show every tag of each member.")
	flags.BoolVar(&r.wan, "wan", false, "List the servers instead, with the addresses and ports that they have for other\ndatacenters. A client agent knows none.")
	flags.StringVar(&r.filter, "filter", "", "Only members for which this `expression` holds. Status is a number in it:\n1 alive, 2 leaving, 3 left, 4 failed.")
	flags.StringVar(&r.status, "status", ".*", "Only members whose status matches this regular `expression`.")
	flags.StringVar(&r.ignored, "segment", "", "Accepted and ignored: there are no network `segments`.")
}

func (r *membersRunner) run(streams streams, _ []string) error {
	status, err := regexp.Compile(r.status)
	if err != nil {
		return fmt.Errorf("the value of -status is not a regular expression: %w", err)
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	options := api.MembersOpts{WAN: r.wan, Filter: r.filter}
	if !r.wan {
		options.Segment = api.AllSegments // agents refuse it beside wan
	}
	found, err := client.Agent().MembersOpts(options)
	if err != nil {
		return fmt.Errorf("cannot list the members: %w", err)
	}
	var members []member
	for _, m := range found {
		if status.MatchString(statusName(m.Status)) {
			members = append(members, newMember(m))
		}
	}
	if len(members) == 0 {
		return exitNoMembers
	}
	slices.SortStableFunc(members, compareMembers)
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"}}
	if r.detailed {
		rows = [][]string{{"Node", "Address", "Status", "Tags"}}
	}
	for _, m := range members {
		if r.detailed {
			rows = append(rows, []string{m.name, m.address, m.status, joinPairs(m.tags, ",")})
		} else {
			rows = append(rows, m.row())
		}
	}
	printTable(streams.out, rows, tableGap)
	return nil
}

// member is one line of the list.
type member struct {
	name, address, status string
	role                  string // server, client or unknown
	partition, segment    string
	tags                  map[string]string
}

// Segments that the list shows for members that name none.
const (
	allSegments    = "<all>"
	defaultSegment = "<default>"
	onlyPartition  = "default"
)

func newMember(m *api.AgentMember) member {
	tags := maps.Clone(m.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	line := member{
		name:    m.Name,
		address: net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port))),
		status:  statusName(m.Status),
		role:    "unknown",
		tags:    tags,
	}
	switch tags[api.MemberTagKeyRole] {
	case api.MemberTagValueRoleServer:
		line.role = "server"
		tags[api.MemberTagKeySegment] = allSegments
	case api.MemberTagValueRoleClient:
		line.role = "client"
		if tags[api.MemberTagKeySegment] == "" {
			tags[api.MemberTagKeySegment] = defaultSegment
		}
	default:
		return line
	}
	if tags[api.MemberTagKeyPartition] == "" {
		tags[api.MemberTagKeyPartition] = onlyPartition
	}
	line.partition = tags[api.MemberTagKeyPartition]
	line.segment = tags[api.MemberTagKeySegment]
	return line
}

// row is the line without tags. Of a member of unknown role nothing more is
// known than where it is.
func (m member) row() []string {
	if m.role == "unknown" {
		return []string{m.name, m.address, m.status, m.role}
	}
	build, _, _ := strings.Cut(m.tags["build"], ":")
	return []string{m.name, m.address, m.status, m.role, build, m.tags["vsn"], m.tags["dc"], m.partition, m.segment}
}

// compareMembers puts servers first, then goes by segment, partition and name.
func compareMembers(a, b member) int {
	rank := map[string]int{"server": 0, "client": 1, "unknown": 2}
	return cmp.Or(
		cmp.Compare(rank[a.role], rank[b.role]),
		cmp.Compare(a.segment, b.segment),
		cmp.Compare(a.partition, b.partition),
		cmp.Compare(a.name, b.name),
	)
}

// statusName is the word for the number that the interface uses.
func statusName(status int) string {
	names := [...]string{"none", "alive", "leaving", "left", "failed"}
	if status < 0 || status >= len(names) {
		return fmt.Sprintf("unknown(%d)", status)
	}
	return names[status]
}
