package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// shownChanges is how many changes of an instance are shown that does not
	// answer, unless told; of others, only the last.
	shownChanges = 5
	// shownOutput is how many characters of a check's output are shown: its reason
	// stands at its beginning. All of it is in the JSON.
	shownOutput = 300
)

// whyReport is what is printed for people.
type whyReport struct {
	answer      *whyAnswer
	node        string // empty for all
	there, gone []*whyInstance
	now         time.Time
	changes     int

	out *bufio.Writer
}

// print writes the verdict, then the instances, those first that do not answer.
func (r *whyReport) print(w io.Writer) error {
	r.out = bufio.NewWriter(w)
	r.line("%s", r.verdict())
	for _, answered := range []bool{false, true} {
		for _, in := range r.there {
			if in.DNS.Configured.Answered == answered {
				r.instance(in)
			}
		}
	}
	for i, in := range r.gone {
		if i == 0 {
			r.line("")
			r.line("Removed lately:")
		}
		r.removed(in)
	}
	if r.answer.RemovedCut {
		r.line("  and more before.")
	}
	r.line("")
	if h := r.answer.History; h.Time == nil {
		r.line("The history reaches back to the beginning.")
	} else {
		r.line("The %s, of %s: what was before is not known.", printed(h.Text), stamp(*h.Time))
	}
	return r.out.Flush()
}

// line writes one line. Texts from elsewhere are made harmless by whoever
// composes it.
func (r *whyReport) line(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// field writes a line about an instance, behind its name.
func (r *whyReport) field(name, format string, args ...any) {
	r.line("  %-13s%s", name+":", fmt.Sprintf(format, args...))
}

func (r *whyReport) verdict() string {
	what := printed(r.answer.Service)
	if r.node != "" {
		what += " on " + printed(r.node)
	}
	all, some := len(r.there), r.answer.Answering
	text := ""
	switch {
	case all == 0:
		return fmt.Sprintf("%s: no instance is registered any more.", what)
	case all == 1 && some == 1:
		text = fmt.Sprintf("%s: its only instance answers", what)
	case all == 1:
		text = fmt.Sprintf("%s: its only instance does not answer", what)
	case some == all:
		text = fmt.Sprintf("%s: all %d instances answer", what, all)
	case some == 0:
		text = fmt.Sprintf("%s: none of %d instances answers", what, all)
	default:
		text = fmt.Sprintf("%s: %d of %d instances answer", what, some, all)
	}
	if r.answer.OnlyPassing {
		text += ", as the agent of " + printed(r.answer.Agent) + " has dns_config.only_passing"
	}
	if r.answer.Passing != some {
		text += fmt.Sprintf(" (with ?passing: %d)", r.answer.Passing)
	}
	return text + "."
}

// instance writes the block of one instance.
func (r *whyReport) instance(in *whyInstance) {
	does, changes := "answers", min(r.changes, 1)
	if !in.DNS.Configured.Answered {
		does, changes = "does NOT answer", r.changes
	}
	r.line("")
	r.line("%s on %s (%s) %s.", printed(in.ServiceID), printed(in.Node), printed(place(in.Address, in.Port)), does)
	if in.DNS.Configured.Answered {
		r.answered(in)
	}
	blamed := in.DNS.Configured.Checks
	if in.DNS.Configured.Answered {
		blamed = in.Passing.Checks
	}
	for _, id := range blamed {
		for _, c := range in.Checks {
			if c.CheckID == id {
				r.check(in, c)
			}
		}
	}
	if in.DNS.Remark != "" {
		r.field("Note", "%s.", printed(in.DNS.Remark))
	}
	if l := in.Local; l != nil {
		r.local(in)
	}
	if !in.DNS.Configured.Answered || slices.ContainsFunc(in.Removal, func(x struct {
		At   *time.Time
		Text string
	}) bool {
		return x.At != nil
	}) {
		for _, removal := range in.Removal {
			if removal.At == nil {
				r.field("Removal", "%s.", printed(removal.Text))
			} else {
				r.field("Removal", "%s: %s.", r.when(*removal.At), printed(removal.Text))
			}
		}
	}
	r.field("Registered", "%s", r.step(in.Registered))
	r.history(in, changes)
}

// answered writes what is worth knowing of an instance that answers.
func (r *whyReport) answered(in *whyInstance) {
	v := in.DNS.Configured
	switch {
	case v.Weight == 0:
		r.field("Note", "its weight is 0: it comes after all others, and in SRV records with weight 0.")
	case len(in.Passing.Checks) == 0 && v.Weight > 1:
		r.field("Note", "its weight is %d.", v.Weight)
	}
	switch {
	case !in.Passing.Answered:
		r.field("Note", "?passing does not show it, for the check below.")
	case !in.DNS.Default.Answered:
		r.field("Note", "with default settings DNS would not answer with it.")
	}
}

// check writes why a check is to blame, and what to do about it.
func (r *whyReport) check(in *whyInstance, c *whyCheck) {
	name := c.CheckID
	if c.Name != "" && c.Name != c.CheckID {
		name += " (" + c.Name + ")"
	}
	r.field("Why", "check %s of the %s is %s, %s.", printed(name), printed(c.Scope), printed(c.Status), r.since(c.Turned))
	local := in.localCheck(c.CheckID)
	output := c.Output
	if local != nil && local.Output != "" {
		output = local.Output
	}
	if c.Notes != "" {
		r.field("Notes", "%s", shortened(c.Notes))
	}
	if output = strings.TrimSpace(output); output != "" {
		r.field("It says", "%s", shortened(output))
	}
	switch o := c.Written.Origin; {
	case o != nil && (o.Address == "" || strings.Contains(o.Endpoint, " /v1/agent/")):
		r.field("Reported", "by the agent of %s.", printed(c.ReportedBy))
	case o != nil:
		r.field("Reported", "%s.", origin(*o))
	case c.Written.Unknown != "":
		r.field("Reported", "at index %d; by whom is not known: the %s.", c.Written.Index, printed(c.Written.Unknown))
	}
	r.field("To do", "%s.", printed(r.advice(in, c, local)))
}

func (in *whyInstance) localCheck(id string) *whyLocalCheck {
	if in.Local != nil {
		for _, c := range in.Local.Checks {
			if c.CheckID == id {
				return c
			}
		}
	}
	return nil
}

// Checks that the cluster itself makes.
const (
	checkLiveness           = "serfHealth"
	checkNodeMaintenance    = "_node_maintenance"
	checkServiceMaintenance = "_service_maintenance:"
)

// advice is what to do about a check.
func (r *whyReport) advice(in *whyInstance, c *whyCheck, local *whyLocalCheck) string {
	kind := c.Type
	if local != nil && local.Kind != "" {
		kind = local.Kind
	}
	switch {
	case c.CheckID == checkLiveness:
		return fmt.Sprintf("start the agent of %s again, or mend its network; if the node is gone for good: muster force-leave %s", in.Node, in.Node)
	case c.CheckID == checkNodeMaintenance:
		return fmt.Sprintf("somebody took the node out of service; to end that, on %s: muster maint -disable", in.Node)
	case strings.HasPrefix(c.CheckID, checkServiceMaintenance):
		return fmt.Sprintf("somebody took the instance out of service; to end that, on %s: muster maint -disable -service=%s", in.Node, in.ServiceID)
	case kind == "alias" && local != nil && local.AliasService != "":
		return fmt.Sprintf("look at the instance %s%s that the check mirrors", local.AliasService, onNode(local.AliasNode))
	case kind == "alias" && local != nil && local.AliasNode != "":
		return fmt.Sprintf("look at the node %s that the check mirrors", local.AliasNode)
	case kind == "alias":
		return "look at what the check mirrors"
	case kind == "ttl" && local != nil && local.LastRun == nil:
		return fmt.Sprintf("the application has not reported yet: it has to, at %s every %s at least, to PUT /v1/agent/check/pass/%s", in.Node, local.TTL, c.CheckID)
	case kind == "ttl" && strings.HasPrefix(c.Output, "TTL expired"):
		return fmt.Sprintf("the application stopped reporting: it has to, at %s, to PUT /v1/agent/check/pass/%s", in.Node, c.CheckID)
	case kind == "ttl":
		return "look into the application: it reported this itself"
	case kind == "":
		return "nobody runs this check: whoever registered it has to report again"
	case local != nil && local.LastRun == nil && local.NextRun != nil:
		return fmt.Sprintf("wait: it has not run yet, and does %s", r.when(*local.NextRun))
	case local != nil && local.NextRun != nil:
		return fmt.Sprintf("mend what the check asks, as it is seen from %s; it runs again %s", in.Node, r.when(*local.NextRun))
	}
	return fmt.Sprintf("mend what the check asks, as it is seen from %s", in.Node)
}

func onNode(node string) string {
	if node == "" {
		return ""
	}
	return " on " + node
}

// local writes what only the instance's own agent knows.
func (r *whyReport) local(in *whyInstance) {
	l := in.Local
	if l.Flaps > 0 {
		r.field("Flaps", "its checks turned %d times within %s.", l.Flaps, printed(l.FlapWindow))
	}
	switch {
	case l.Refused:
		r.field("Note", "the catalog refused it: the log of the agent says why.")
	case !l.Synced:
		r.field("Note", "the catalog does not know of it as its agent has it: that is being written.")
	}
	for _, c := range l.Checks {
		if c.OutputDue != nil {
			r.field("Note", "the output of check %s is newer than in the catalog, which is told %s.", printed(c.CheckID), r.when(*c.OutputDue))
		}
	}
}

// history writes the last changes.
func (r *whyReport) history(in *whyInstance, most int) {
	if len(in.Changes) == 0 || most == 0 {
		return
	}
	shown := in.Changes[:min(most, len(in.Changes))]
	if len(shown) == 1 {
		r.field("Last change", "%s", r.change(shown[0]))
		return
	}
	r.line("  Last changes:")
	for _, c := range shown {
		r.line("    %s", r.change(c))
	}
	if more := len(in.Changes) - len(shown); more > 0 || in.ChangesCut {
		r.line("    and more: muster why -changes=%d", max(len(in.Changes), shownChanges))
	}
}

func (r *whyReport) change(c *whyChange) string {
	text := fmt.Sprintf("%s, index %d: %s", r.ago(c.Time), c.Index, printed(c.Kind))
	if c.CheckID != "" {
		text = fmt.Sprintf("%s, index %d: check %s %s", r.ago(c.Time), c.Index, printed(c.CheckID), strings.TrimPrefix(printed(c.Kind), "check "))
	}
	for i, f := range c.Fields {
		if i > 0 {
			text += ";"
		}
		switch {
		case c.CheckID != "" && f.After != "":
			text += " " + printed(f.After)
		case c.CheckID != "":
		case f.Before == "":
			text += fmt.Sprintf(" %s %s", printed(f.Field), shortened(f.After))
		case f.After == "":
			text += fmt.Sprintf(" %s no more %s", printed(f.Field), shortened(f.Before))
		default:
			text += fmt.Sprintf(" %s from %s to %s", printed(f.Field), shortened(f.Before), shortened(f.After))
		}
	}
	return text + ", " + origin(c.Origin)
}

// removed writes of an instance that is gone how it went.
func (r *whyReport) removed(in *whyInstance) {
	text := "it is not known how"
	if len(in.Changes) > 0 {
		text = r.change(in.Changes[0])
	}
	r.line("  %s on %s (%s): %s.", printed(in.ServiceID), printed(in.Node), printed(place(in.Address, in.Port)), text)
}

// step says when something was written, and by whom.
func (r *whyReport) step(s whyStep) string {
	if s.Time == nil || s.Origin == nil {
		return fmt.Sprintf("at index %d; by whom is not known: the %s.", s.Index, printed(s.Unknown))
	}
	return fmt.Sprintf("%s, at %s, %s.", r.ago(*s.Time), stamp(*s.Time), origin(*s.Origin))
}

// since says for how long something has been so.
func (r *whyReport) since(s whyStep) string {
	if s.Time == nil {
		return fmt.Sprintf("since before index %d, where the history begins", r.answer.History.Begins)
	}
	return fmt.Sprintf("for %s, since %s", span(r.now.Sub(*s.Time)), stamp(*s.Time))
}

// origin names who asked for a change.
func origin(o whyOrigin) string {
	if o.Address == "" {
		return printed(fmt.Sprintf("by the agent of %s (%s)", o.Node, o.Endpoint))
	}
	return printed(fmt.Sprintf("by %s through the agent of %s (%s)", o.Address, o.Node, o.Endpoint))
}

// when is a time that is still to come, or was just now.
func (r *whyReport) when(t time.Time) string {
	if wait := t.Sub(r.now); wait > 0 {
		return fmt.Sprintf("in %s, at %s", span(wait), stamp(t))
	}
	return "any moment now"
}

func (r *whyReport) ago(t time.Time) string { return span(r.now.Sub(t)) + " ago" }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a time span in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// place is an address with its port, if there is one.
func place(address string, port int) string {
	if port == 0 {
		return address
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// shortened is the beginning of a text, on one line.
func shortened(text string) string {
	runes := []rune(text)
	if len(runes) > shownOutput {
		return printed(string(runes[:shownOutput])) + " ..."
	}
	return printed(text)
}
