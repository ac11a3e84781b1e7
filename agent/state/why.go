package state

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Why asks how the instances of one service stand, and how they came to it, by
// the service's name without regard to letter case. The answer is a *[Reasons].
// What the history of the answering server holds is in it, and where that begins:
// two servers can differ in nothing but that.
type Why struct {
	Service string `codec:"Service"`
}

// Reasons is what is known of a service and of how it came to that.
type Reasons struct {
	// Service is the name as the instances have it, or as it was asked for.
	Service string `codec:"Service"`
	// Index and At are those of the view that answers; At is in Unix milliseconds.
	Index uint64 `codec:"Index"`
	At    int64  `codec:"At"`
	// Begins and BeganAt are those of the oldest view that is remembered: how it
	// came to be is not known.
	Begins  uint64 `codec:"Begins"`
	BeganAt int64  `codec:"BeganAt"`
	// Instances are ordered by node and ID.
	Instances []Reason `codec:"Instances"`
	// Gone are instances that the history remembers and that are not there any
	// more, the last that went first, at most [MaxWhyGone] of them. GoneCut is
	// whether there were more.
	Gone    []Reason `codec:"Gone"`
	GoneCut bool     `codec:"GoneCut"`
}

// Reason is what is known of one instance. An instance that is gone has the
// Service that it last was, its node if that is still there, and no checks.
type Reason struct {
	Node    *catalog.Node    `codec:"Node"`
	Service *catalog.Service `codec:"Service"`
	// Checks are those that decide the instance's health, as in [health.Entry].
	Checks []CheckReason `codec:"Checks"`
	// Registered and Written are the first and the last effective write of the
	// instance; nil means that the history does not reach back to it.
	Registered *Step `codec:"Registered"`
	Written    *Step `codec:"Written"`
	// Changes are the last ones of the instance, of its checks and of its node,
	// newest first, at most [MaxWhyChanges] of them. Cut is whether the history has
	// more.
	Changes []InstanceChange `codec:"Changes"`
	Cut     bool             `codec:"Cut"`
}

// CheckReason is a check with how it came to its status.
type CheckReason struct {
	Check *health.Check `codec:"Check"`
	// Turned is when the check took the status that it has, and Written its last
	// effective write; nil means that the history does not reach back to it.
	Turned  *Step `codec:"Turned"`
	Written *Step `codec:"Written"`
}

// Step says which command it was: its index, the leader's time in Unix
// milliseconds, and who asked for it.
type Step struct {
	Index  uint64      `codec:"Index"`
	At     int64       `codec:"At"`
	Origin mvcc.Origin `codec:"Origin"`
}

// Kinds of changes. They cross the wire, and stand in answers to clients.
const (
	ChangeRegistered   = "registered"        // the instance came
	ChangeMoved        = "moved"             // it is reached elsewhere
	ChangeModified     = "changed"           // something else about it changed
	ChangeRemoved      = "removed"           // it went
	ChangeNodeRemoved  = "removed with node" // it went because its node did
	ChangeNode         = "node changed"      // its node has another address or ID
	ChangeCheckAdded   = "check registered"  // a check came that decides its health
	ChangeCheckTurned  = "check turned"      // such a check has another status
	ChangeCheckRemoved = "check removed"     // such a check went
	ChangeRenamed      = "renamed"           // it was, or is now, one of another service
)

// InstanceChange is one step of what happened to an instance.
type InstanceChange struct {
	Step Step `codec:"Step"`
	// Kind is one of the kinds above.
	Kind string `codec:"Kind"`
	// CheckID and CheckName name the check if it is about one, NodeCheck is whether
	// that is one of the node, and Output is what it said.
	CheckID   string `codec:"CheckID"`
	CheckName string `codec:"CheckName"`
	NodeCheck bool   `codec:"NodeCheck"`
	Output    string `codec:"Output"`
	// Fields are what was changed, and how.
	Fields []FieldChange `codec:"Fields"`
}

// FieldChange is a field as it was and as it is, in words; empty is its zero
// value. Words are cut after [MaxWhyText] bytes, as is [InstanceChange.Output].
type FieldChange struct {
	Field  string `codec:"Field"`
	Before string `codec:"Before"`
	After  string `codec:"After"`
}

// why answers a [Why]. It goes through the whole history, newest step first, so
// that at each one it is known who was an instance after it.
func (v *View) why(q *Why, w *mvcc.Watch) (*Reasons, uint64) {
	r := &Reasons{Service: q.Service, Index: v.Index, At: v.At, Begins: v.Index, BeganAt: v.At, Instances: []Reason{}, Gone: []Reason{}}
	if q.Service == "" {
		return r, v.Catalog.ServiceIndex("", w)
	}
	entries, index := v.Health.Service(v.Catalog, &health.ServiceQuery{Service: q.Service}, w)
	t := tracer{view: v, name: fold(q.Service), places: map[place]int{}, onNode: map[string][]int{}, checks: map[place][]*CheckReason{}}
	for i := range entries {
		t.begin(&entries[i])
	}
	if v.history != nil {
		r.Begins, r.BeganAt = v.history.back(v, t.step)
	}
	r.Instances, r.Gone, r.GoneCut = append(r.Instances, t.reasons[:t.there]...), append(r.Gone, t.reasons[t.there:]...), t.cut
	if len(t.reasons) > 0 {
		r.Service = t.reasons[0].Service.Name
	}
	return r, index
}

// fold brings a name to the form in which the tables compare names.
func fold(name string) string { return strings.ToLower(name) }

// place is where an instance or a check stands.
type place struct{ node, id string }

// tracer follows the instances of a service back through the history.
type tracer struct {
	view    *View
	name    string
	there   int // how many of reasons are there in view; they come first
	reasons []Reason
	absent  []bool           // whether, as far back as it was gone, a reason was not there
	places  map[place]int    // of reasons
	onNode  map[string][]int // the reasons of a node
	checks  map[place][]*CheckReason
	cut     bool // more instances went than are followed
	// came and went are the reasons that the command being taken in registered, and
	// removed.
	came, went []int
}

// begin follows an instance that is there.
func (t *tracer) begin(e *health.Entry) {
	reason := Reason{Node: e.Node, Service: e.Service, Checks: make([]CheckReason, len(e.Checks)), Changes: []InstanceChange{}}
	for i, c := range e.Checks {
		reason.Checks[i].Check = c
	}
	t.follow(reason)
	t.there++
	for i := range reason.Checks {
		c := &reason.Checks[i]
		where := place{fold(c.Check.Node), c.Check.ID}
		t.checks[where] = append(t.checks[where], c)
	}
}

// follow adds an instance to those that are followed.
func (t *tracer) follow(r Reason) {
	node := fold(r.Service.Node)
	t.places[place{node, r.Service.ID}] = len(t.reasons)
	t.onNode[node] = append(t.onNode[node], len(t.reasons))
	t.reasons = append(t.reasons, r)
	t.absent = append(t.absent, false)
}

// step takes in what one command changed. Instances come first: checks belong to
// some that this very command may have removed.
func (t *tracer) step(rec *Record) {
	at := Step{Index: rec.View.Index, At: rec.View.At, Origin: rec.Origin}
	nodeGone := ""
	for _, c := range rec.Changes {
		if n, ok := c.Before.(*catalog.Node); ok && c.After == nil {
			nodeGone = fold(n.Name)
		}
	}
	t.came, t.went = t.came[:0], t.went[:0]
	for _, c := range rec.Changes {
		old, was := c.Before.(*catalog.Service)
		now, is := c.After.(*catalog.Service)
		if was || is {
			t.service(at, old, now, nodeGone)
		}
	}
	for _, c := range rec.Changes {
		if old, now, ok := rows[*health.Check](c); ok {
			t.check(at, old, now)
		}
		if old, now, ok := rows[*catalog.Node](c); ok && old != nil && now != nil {
			t.node(at, old, now)
		}
	}
	for _, i := range t.came {
		t.absent[i] = true
	}
}

// rows are the row of a change as it was and as it is, if it is of that type.
func rows[R any](c mvcc.Change) (old, now R, ok bool) {
	old, was := c.Before.(R)
	now, is := c.After.(R)
	return old, now, was || is
}

// service takes in that an instance came, changed or went.
func (t *tracer) service(at Step, old, now *catalog.Service, nodeGone string) {
	row := now
	if now == nil {
		row = old
	}
	where := place{fold(row.Node), row.ID}
	i, ok := t.places[where]
	if ok {
		t.reasons[i].wrote(at)
	}
	was, is := old != nil && fold(old.Name) == t.name, now != nil && fold(now.Name) == t.name
	if !was && !is {
		return
	}
	if !ok {
		// It is not there any more, and this is how it went.
		if t.cut = t.cut || len(t.reasons)-t.there >= MaxWhyGone; t.cut {
			return
		}
		n, _ := t.view.Catalog.Node(&catalog.NodeQuery{Name: old.Node}, nil)
		i = len(t.reasons)
		t.follow(Reason{Node: n, Service: old, Checks: []CheckReason{}, Changes: []InstanceChange{}})
	}
	t.absent[i] = false
	switch {
	case now == nil && where.node == nodeGone:
		t.went = append(t.went, i)
		t.note(i, InstanceChange{Step: at, Kind: ChangeNodeRemoved})
	case now == nil:
		t.went = append(t.went, i)
		t.note(i, InstanceChange{Step: at, Kind: ChangeRemoved})
	case now.CreateIndex == at.Index: // also in place of another of its ID
		t.came = append(t.came, i)
		nothing := catalog.Service{Name: now.Name}
		if usual := (catalog.Weights{Passing: 1, Warning: 1}); now.Weights == usual {
			nothing.Weights = usual
		}
		t.noteFields(i, at, ChangeRegistered, &nothing, now)
	case was != is:
		if is {
			t.came = append(t.came, i)
		}
		t.noteFields(i, at, ChangeRenamed, old, now)
	case old.Address != now.Address || old.Port != now.Port || old.SocketPath != now.SocketPath:
		t.noteFields(i, at, ChangeMoved, old, now)
	default:
		t.noteFields(i, at, ChangeModified, old, now)
	}
}

// wrote takes in who wrote the instance, be it under another name.
func (r *Reason) wrote(at Step) {
	if at.Index == r.Service.CreateIndex {
		r.Registered = &at
	}
	if at.Index == r.Service.ModifyIndex {
		r.Written = &at
	}
}

// check takes in what happened to a check, for each instance that it counts for.
// A check may have counted for others, or been there before its instance.
func (t *tracer) check(at Step, old, now *health.Check) {
	row := now
	if now == nil {
		row = old
	}
	turned := old == nil || now == nil || old.Status != now.Status
	for _, c := range t.checks[place{fold(row.Node), row.ID}] {
		if c.Written == nil && now != nil {
			c.Written = &at
		}
		if c.Turned == nil && turned {
			c.Turned = &at
		}
	}
	followed := t.countsFor(row)
	if !turned || len(followed) == 0 {
		return
	}
	c := InstanceChange{Step: at, Kind: ChangeCheckTurned, CheckID: row.ID, CheckName: row.Name, NodeCheck: row.ServiceID == "",
		Output: cutText(row.Output)}
	status := FieldChange{Field: "Status"}
	if old == nil {
		c.Kind = ChangeCheckAdded
	} else {
		status.Before = cutText(string(old.Status))
	}
	if now == nil {
		c.Kind, c.Output = ChangeCheckRemoved, ""
	} else {
		status.After = cutText(string(now.Status))
	}
	c.Fields = []FieldChange{status}
	for _, i := range followed {
		if !t.absent[i] && !slices.Contains(t.went, i) {
			t.note(i, c)
		}
	}
}

// countsFor are the instances whose health a check decides.
func (t *tracer) countsFor(c *health.Check) []int {
	if c.ServiceID == "" {
		return t.onNode[fold(c.Node)]
	}
	if i, ok := t.places[place{fold(c.Node), c.ServiceID}]; ok {
		return []int{i}
	}
	return nil
}

// node takes in that a node is another machine, or is reached elsewhere.
func (t *tracer) node(at Step, old, now *catalog.Node) {
	fields := appendField(nil, "Address", old.Address, now.Address)
	fields = appendField(fields, "ID", old.ID, now.ID)
	if len(fields) == 0 {
		return
	}
	for _, i := range t.onNode[fold(now.Name)] {
		if !t.absent[i] {
			t.note(i, InstanceChange{Step: at, Kind: ChangeNode, Fields: fields})
		}
	}
}

// note adds a change to an instance's list, if there is room.
func (t *tracer) note(i int, c InstanceChange) {
	r := &t.reasons[i]
	if len(r.Changes) >= MaxWhyChanges {
		r.Cut = true
		return
	}
	r.Changes = append(r.Changes, c)
}

// noteFields adds a change with what differs.
func (t *tracer) noteFields(i int, at Step, kind string, old, now *catalog.Service) {
	c := InstanceChange{Step: at, Kind: kind}
	if len(t.reasons[i].Changes) < MaxWhyChanges {
		c.Fields = compared(old, now)
	}
	t.note(i, c)
}

// compared lists in which fields two states of an instance differ.
func compared(old, now *catalog.Service) []FieldChange {
	f := appendField(nil, "Service", old.Name, now.Name)
	f = appendField(f, "Address", old.Address, now.Address)
	f = appendField(f, "Port", number(old.Port), number(now.Port))
	f = appendField(f, "SocketPath", old.SocketPath, now.SocketPath)
	f = appendField(f, "Tags", strings.Join(old.Tags, ", "), strings.Join(now.Tags, ", "))
	f = appendField(f, "Weights", weights(old.Weights), weights(now.Weights))
	f = appendField(f, "Meta", pairs(old.Meta), pairs(now.Meta))
	f = appendField(f, "TaggedAddresses", addresses(old.TaggedAddresses), addresses(now.TaggedAddresses))
	f = appendField(f, "EnableTagOverride", yes(old.EnableTagOverride), yes(now.EnableTagOverride))
	f = appendField(f, "Kind", old.Kind, now.Kind)
	f = appendField(f, "Locality", locality(old.Locality), locality(now.Locality))
	f = appendField(f, "Proxy", string(old.Proxy), string(now.Proxy))
	return appendField(f, "Connect.Native", yes(old.Native), yes(now.Native))
}

func appendField(f []FieldChange, name, old, now string) []FieldChange {
	if old == now {
		return f
	}
	return append(f, FieldChange{Field: name, Before: cutText(old), After: cutText(now)})
}

// cutText bounds a text, between two characters.
func cutText(s string) string {
	if len(s) <= MaxWhyText {
		return s
	}
	end := MaxWhyText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func weights(w catalog.Weights) string {
	if w == (catalog.Weights{}) {
		return ""
	}
	return fmt.Sprintf("passing %d, warning %d", w.Passing, w.Warning)
}

func pairs(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, ", ")
}

func addresses(m map[string]catalog.ServiceAddress) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%s:%d", key, m[key].Address, m[key].Port))
	}
	return strings.Join(out, ", ")
}

func locality(l *catalog.Locality) string {
	if l == nil {
		return ""
	}
	return strings.Trim(l.Region+"/"+l.Zone, "/")
}

// back takes the steps that made v, newest first, and hands each to f. It returns
// index and time of the view that the last of them began from. Steps that are
// forgotten meanwhile are not among them.
func (h *History) back(v *View, f func(*Record)) (begins uint64, at int64) {
	begins, at = v.Index, v.At
	chunk := make([]Record, historyChunk)
	for {
		n, first := h.upTo(v.line, begins, chunk)
		for i := range chunk[:n] {
			r := &chunk[i]
			if first && i == n-1 {
				return r.View.Index, r.View.At
			}
			f(r)
			begins, at = r.View.Index-1, r.View.At
		}
		if n == 0 {
			return begins, at
		}
	}
}

// upTo copies the last records of one line of views that are not above an index,
// newest first, and reports whether the first of all is among them.
func (h *History) upTo(line, index uint64, into []Record) (n int, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.records[0].View.line != line {
		return 0, false
	}
	i := sort.Search(len(h.records), func(i int) bool { return h.records[i].View.Index > index })
	for n < len(into) && i > 0 {
		i--
		into[n] = h.records[i]
		n++
	}
	return n, n > 0 && i == 0
}
