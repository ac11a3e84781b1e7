package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// whyTime is when the answers below were given.
var whyTime = time.Date(2026, 11, 21, 3, 10, 0, 0, time.UTC)

// whyInstanceJSON is an instance of a service, with fields set by the test.
func whyInstanceJSON(t *testing.T, fields string) string {
	t.Helper()
	text := `{"Node":"n1","ServiceID":"web-1","Address":"10.0.0.1","Port":80,
		"DNS":{"Default":{"Answered":true,"Weight":1},"Configured":{"Answered":true,"Weight":1}},"Passing":{"Answered":true},
		"Registered":{"Index":12,"Time":"2026-11-21T01:00:00Z","Origin":{"Node":"n1","Address":"10.0.0.7:4711","Endpoint":"PUT /v1/agent/service/register"}}` + fields + `}`
	// A field that is there twice counts as it stands last.
	var check map[string]any
	if err := json.Unmarshal([]byte(text), &check); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return text
}

// failing is a check that decides, and the verdicts on its instance.
func failing(check string) string {
	return `,"DNS":{"Default":{"Answered":false,"Checks":["c"]},"Configured":{"Answered":false,"Checks":["c"]}},"Passing":{"Answered":false,"Checks":["c"]},
		"Checks":[{"CheckID":"other","Status":"passing"},{"CheckID":"c","Name":"c","Scope":"service","Status":"critical",
		"Turned":{"Index":40,"Time":"2026-11-21T03:05:48Z"},"Written":{"Index":41,"Origin":{"Node":"n1","Endpoint":"anti-entropy"}},"ReportedBy":"n1"` + check + `}]`
}

func whyJSON(there, removed []string, more string) string {
	return fmt.Sprintf(`{"Service":"web","Datacenter":"dc1","Agent":"n1","Instances":[%s],"Removed":[%s],
		"History":{"Begins":10,"Time":"2026-11-21T00:00:00Z","Text":"history begins at index 10"}%s}`,
		strings.Join(there, ","), strings.Join(removed, ","), more)
}

// whyText is what is printed of an answer.
func whyText(t *testing.T, body string, changes int) string {
	t.Helper()
	var a whyAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	report, err := (&whyRunner{}).pick(&a)
	if err != nil {
		t.Fatal(err)
	}
	report.now, report.changes = whyTime, changes
	var out strings.Builder
	if err := report.print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWhyText(t *testing.T) {
	const end = "\nThe history begins at index 10, of 2026-11-21 00:00:00 UTC: what was before is not known.\n"
	const registered = "  Registered:  2h10m ago, at 2026-11-21 01:00:00 UTC, by 10.0.0.7:4711 through the agent of n1 (PUT /v1/agent/service/register).\n"
	changes := `,"Changes":[
		{"Index":40,"Time":"2026-11-21T03:05:48Z","Origin":{"Node":"n1","Endpoint":"anti-entropy"},"Kind":"check turned","CheckID":"c","Fields":[{"Field":"Status","Before":"passing","After":"critical"}]},
		{"Index":30,"Time":"2026-11-20T03:10:00Z","Origin":{"Node":"n1","Address":"a:1","Endpoint":"PUT /v1/x"},"Kind":"changed","Fields":[{"Field":"Tags","After":"v1"},{"Field":"Port","Before":"80","After":"81"},{"Field":"Kind","Before":"k"}]},
		{"Index":12,"Time":"2026-11-18T01:10:00Z","Origin":{"Node":"n1","Endpoint":"anti-entropy"},"Kind":"registered","Fields":[]}]`
	text := whyText(t, whyJSON([]string{
		whyInstanceJSON(t, changes),
		whyInstanceJSON(t, `,"ServiceID":"web-2"`+failing(`,"Type":"http","Output":"connection\n refused\u001b[1m"`)+changes+`,
			"Removal":[{"At":"2026-11-21T03:12:00Z","Text":"check c has been critical"},{"At":null,"Text":"or never"}],
			"Local":{"Synced":false,"Flaps":7,"FlapWindow":"10m0s","Checks":[{"CheckID":"c","Kind":"http","Output":"refused now","LastRun":"2026-11-21T03:09:59Z","NextRun":"2026-11-21T03:10:09Z","OutputDue":"2026-11-21T03:11:00Z"}]}`),
		whyInstanceJSON(t, `,"ServiceID":"web-3","Registered":{"Index":3,"Time":null,"Origin":null,"Unknown":"history begins at index 10"}`+
			failing(`,"Type":"","Turned":{"Time":null,"Unknown":"history begins at index 10"},"Written":{"Index":4,"Origin":null,"Unknown":"history begins at index 10"},"ReportedBy":""`)),
	}, []string{`{"Node":"n9","ServiceID":"web-9","Address":"10.0.0.9","Changes":[{"Index":39,"Time":"2026-11-21T03:00:00Z","Kind":"removed with node","Origin":{"Node":"n1","Endpoint":"leader"}}]}`},
		`,"RemovedCut":true`), 2)
	want := `web: 1 of 3 instances answer.

web-2 on n1 (10.0.0.1:80) does NOT answer.
  Why:         check c of the service is critical, for 4m12s, since 2026-11-21 03:05:48 UTC.
  It says:     refused now
  Reported:    by the agent of n1.
  To do:       mend what the check asks, as it is seen from n1; it runs again in 9s, at 2026-11-21 03:10:09 UTC.
  Flaps:       its checks turned 7 times within 10m0s.
  Note:        the catalog does not know of it as its agent has it: that is being written.
  Note:        the output of check c is newer than in the catalog, which is told in 1m0s, at 2026-11-21 03:11:00 UTC.
  Removal:     in 2m0s, at 2026-11-21 03:12:00 UTC: check c has been critical.
  Removal:     or never.
` + registered + `  Last changes:
    4m12s ago, index 40: check c turned critical, by the agent of n1 (anti-entropy)
    1d0h ago, index 30: changed Tags v1; Port from 80 to 81; Kind no more k, by a:1 through the agent of n1 (PUT /v1/x)
    and more: muster why -changes=5

web-3 on n1 (10.0.0.1:80) does NOT answer.
  Why:         check c of the service is critical, since before index 10, where the history begins.
  Reported:    at index 4; by whom is not known: the history begins at index 10.
  To do:       nobody runs this check: whoever registered it has to report again.
  Registered:  at index 3; by whom is not known: the history begins at index 10.

web-1 on n1 (10.0.0.1:80) answers.
` + registered + `  Last change: 4m12s ago, index 40: check c turned critical, by the agent of n1 (anti-entropy)

Removed lately:
  web-9 on n9 (10.0.0.9): 10m0s ago, index 39: removed with node, by the agent of n1 (leader).
  and more before.
` + end
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestWhyTextInParts(t *testing.T) {
	warned := `,"Passing":{"Answered":false,"Checks":["c"]},"Checks":[{"CheckID":"c","Name":"disk","Scope":"node","Status":"warning","Turned":{"Time":"2026-11-21T03:09:00Z"}}]`
	for _, c := range []struct {
		name   string
		fields string
		more   string
		want   []string // lines in the text
	}{
		{"one that answers", "", "", []string{"web: its only instance answers."}},
		{"a warning", warned, "", []string{"web: its only instance answers (with ?passing: 0).", "  Note:        ?passing does not show it, for the check below.",
			"  Why:         check c (disk) of the node is warning, for 1m0s, since 2026-11-21 03:09:00 UTC."}},
		{"only_passing", failing(`,"Status":"warning","Type":"http"`) + `,"DNS":{"Default":{"Answered":true,"Weight":1},"Configured":{"Answered":false,"Checks":["c"]}}`, `,"OnlyPassing":true`,
			[]string{"web: its only instance does not answer, as the agent of n1 has dns_config.only_passing."}},
		{"weight 0", `,"DNS":{"Default":{"Answered":true},"Configured":{"Answered":true,"Weight":0}}`, "", []string{"  Note:        its weight is 0: it comes after all others, and in SRV records with weight 0."}},
		{"weight 5", `,"DNS":{"Default":{"Answered":true},"Configured":{"Answered":true,"Weight":5}}`, "", []string{"  Note:        its weight is 5."}},
		{"host name", `,"DNS":{"Default":{"Answered":true},"Configured":{"Answered":true,"Weight":1},"Remark":"a host name"}`, "", []string{"  Note:        a host name."}},
		{"failed node", strings.ReplaceAll(failing(`,"Scope":"node"`), `"c"`, `"serfHealth"`), "",
			[]string{"  To do:       start the agent of n1 again, or mend its network; if the node is gone for good: muster force-leave n1."}},
		{"node in maintenance", strings.ReplaceAll(failing(`,"Notes":"new disk"`), `"c"`, `"_node_maintenance"`), "",
			[]string{"  Notes:       new disk", "  To do:       somebody took the node out of service; to end that, on n1: muster maint -disable."}},
		{"in maintenance", strings.ReplaceAll(failing(""), `"c"`, `"_service_maintenance:web-1"`), "",
			[]string{"  To do:       somebody took the instance out of service; to end that, on n1: muster maint -disable -service=web-1."}},
		{"alias elsewhere", failing(`,"Type":"alias"`), "", []string{"  To do:       look at what the check mirrors."}},
		{"alias here", failing(`,"Type":"alias"`) + `,"Local":{"Synced":true,"Checks":[{"CheckID":"c","Kind":"alias","AliasService":"db"}]}`, "",
			[]string{"  To do:       look at the instance db that the check mirrors."}},
		{"alias of a node", failing(`,"Type":"alias"`) + `,"Local":{"Synced":true,"Checks":[{"CheckID":"c","Kind":"alias","AliasNode":"n7"}]}`, "",
			[]string{"  To do:       look at the node n7 that the check mirrors."}},
		{"ttl that never came", failing(`,"Type":"ttl"`) + `,"Local":{"Synced":true,"Checks":[{"CheckID":"c","Kind":"ttl","TTL":"30s"}]}`, "",
			[]string{"  To do:       the application has not reported yet: it has to, at n1 every 30s at least, to PUT /v1/agent/check/pass/c."}},
		{"ttl that expired", failing(`,"Type":"ttl","Output":"TTL expired"`), "", []string{"  To do:       the application stopped reporting: it has to, at n1, to PUT /v1/agent/check/pass/c."}},
		{"ttl that failed", failing(`,"Type":"ttl","Output":"no disk"`), "", []string{"  It says:     no disk", "  To do:       look into the application: it reported this itself."}},
		{"not run yet", failing(`,"Type":"tcp"`) + `,"Local":{"Synced":true,"Checks":[{"CheckID":"c","Kind":"tcp","NextRun":"2026-11-21T03:10:05Z"}]}`, "",
			[]string{"  To do:       wait: it has not run yet, and does in 5s, at 2026-11-21 03:10:05 UTC."}},
		{"refused", failing(`,"Type":"tcp"`) + `,"Local":{"Refused":true}`, "", []string{"  To do:       mend what the check asks, as it is seen from n1.", "  Note:        the catalog refused it: the log of the agent says why."}},
		{"reported by somebody else", failing(`,"Written":{"Index":4,"Origin":{"Node":"n1","Address":"10.0.0.8:1","Endpoint":"PUT /v1/catalog/register"}}`), "",
			[]string{"  Reported:    by 10.0.0.8:1 through the agent of n1 (PUT /v1/catalog/register)."}},
		{"long output", failing(`,"Output":"` + strings.Repeat("é", shownOutput+1) + `"`), "", []string{"  It says:     " + strings.Repeat("é", shownOutput) + " ..."}},
		{"what would harm a terminal", failing(`,"Output":"a\u001b[2J\nb"`) + `,"Node":"n\u001b1"`, "", []string{`  It says:     a\x1b[2J\nb`, `web-1 on n\x1b1 (10.0.0.1:80) does NOT answer.`}},
		{"the beginning", "", `,"History":{"Begins":0,"Time":null}`, []string{"The history reaches back to the beginning."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := whyText(t, whyJSON([]string{whyInstanceJSON(t, c.fields)}, nil, c.more), 5)
			for _, line := range c.want {
				if !strings.Contains("\n"+text, "\n"+line+"\n") {
					t.Errorf("no line\n%s\nin\n%s", line, text)
				}
			}
			if strings.ContainsAny(text, "\x1b") {
				t.Errorf("an escape sequence in\n%q", text)
			}
		})
	}
	if text := whyText(t, whyJSON(nil, []string{`{"Node":"n9","ServiceID":"web-9"}`}, ""), 5); !strings.HasPrefix(text, "web: no instance is registered any more.\n\nRemoved lately:\n  web-9 on n9 (): it is not known how.\n") {
		t.Errorf("a service without instances:\n%s", text)
	}
}

func TestWhyCommand(t *testing.T) {
	good, bad := whyInstanceJSON(t, ""), whyInstanceJSON(t, `,"Node":"n2"`+failing(""))
	unknown := `No instance of the service "web" is known, and none was removed lately: history begins at index 10`
	for _, test := range []struct {
		name  string
		args  []string
		asked string
		give  answer
		code  int
		out   string // how standard output begins
		err   string
	}{
		{"one of two answers", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{body: whyJSON([]string{good, bad}, nil, "")}, 0, "web: 1 of 2 instances answer", ""},
		{"none answers", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{body: whyJSON([]string{bad}, nil, "")}, 1, "web: its only instance does not answer.", ""},
		{"all are gone", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{body: whyJSON(nil, []string{`{"Node":"n1"}`}, "")}, 1, "web: no instance is registered any more.", ""},
		{"one node", []string{"why", "-node=N2", "web"}, "GET /v1/catalog/why/web", answer{body: whyJSON([]string{good, bad}, nil, "")}, 1, "web on N2: its only instance does not answer.", ""},
		{"no such node", []string{"why", "-node=n3", "web"}, "GET /v1/catalog/why/web", answer{body: whyJSON([]string{good, bad}, nil, "")}, 2, "",
			`web has no instance on the node "n3", and none was removed there lately: history begins at index 10.`},
		{"stale, elsewhere", []string{"why", "-stale", "-datacenter=dc2", "a/b"}, "GET /v1/catalog/why/a%2Fb?dc=dc2&stale=", answer{body: whyJSON([]string{good}, nil, "")}, 0, "web: its only instance answers.", ""},
		{"unknown", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{status: 404, body: unknown}, 2, "", unknown + "."},
		{"not of this version", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{status: 404, body: "Invalid URL path"}, 1, "", `cannot learn why "web" answers or does not: `},
		{"no leader", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{status: 500, body: "No cluster leader"}, 1, "", "No cluster leader"},
		{"something else", []string{"why", "web"}, "GET /v1/catalog/why/web", answer{body: "no JSON"}, 1, "", "the answer cannot be read: "},
		{"unknown form", []string{"why", "-format=xml", "web"}, "", answer{}, 1, "", `not "xml"`},
		{"changes below zero", []string{"why", "-changes=-1", "web"}, "", answer{}, 1, "", "not -1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, map[string]answer{test.asked: test.give})
			got := runLine("", connectTo(stub, 1, test.args)...)
			if got.code != test.code || !strings.HasPrefix(got.out, test.out) || (test.out == "") != (got.out == "") || !strings.Contains(got.err, test.err) || (test.err == "") != (got.err == "") {
				t.Errorf("got %d\n%s\n%s\nwant %d %q %q", got.code, got.out, got.err, test.code, test.out, test.err)
			}
			if asked := strings.Join(stub.lines(), ", "); asked != test.asked {
				t.Errorf("asked %q, want %q", asked, test.asked)
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		stub := newStubAgent(t, map[string]answer{"GET /v1/catalog/why/web": {body: whyJSON([]string{good, whyInstanceJSON(t, `,"Node":"n2","Later":{"A":[1]}`)}, nil, "")}})
		got := runLine("", connectTo(stub, 1, []string{"why", "-format=json", "-node=n2", "web"})...)
		var a struct {
			Answering int
			Instances []struct {
				Node  string
				Later struct{ A []int }
			}
			Removed []any
		}
		if err := json.Unmarshal([]byte(got.out), &a); err != nil || got.code != 0 {
			t.Fatalf("%d %v\n%s", got.code, err, got.out)
		}
		// What this program does not know is handed on.
		if a.Answering != 1 || len(a.Instances) != 1 || a.Instances[0].Node != "n2" || len(a.Instances[0].Later.A) != 1 || a.Removed == nil {
			t.Errorf("got %+v", a)
		}
	})
}
