package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// seeds adds the samples and some texts of a format to the corpus.
func seeds(f *testing.F, extension string, texts ...string) {
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*"+extension))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range texts {
		f.Add([]byte(text))
	}
}

// digest takes a text through all that follows from its being parsed.
func digest(t *testing.T, format string, text []byte) *node {
	t.Helper()
	root, err := parse("f", format, text)
	if err != nil {
		return nil
	}
	if _, err := json.Marshal(root.plain()); err != nil {
		t.Errorf("the tree of %q is no JSON: %v", text, err)
	}
	errs := &problems{}
	file := decode(root, errs)
	if errs.err() != nil {
		return root
	}
	for _, key := range []string{"services", "checks"} {
		records, _ := file[key].value.([]record)
		for _, r := range records {
			if key == "services" {
				_ = r.registration(errs)
			} else {
				_, _ = r.check("check")
			}
		}
	}
	return root
}

func FuzzHCL(f *testing.F) {
	seeds(f, ".hcl", defaults, devDefaults, "a =", "x { b = } }", "a = 1e} ", "a = <<-E\n x\n E\n", `a = "${"b"}"`, `a = .5e`, "a=0x")
	f.Fuzz(func(t *testing.T, text []byte) { digest(t, formatHCL, text) })
}

// FuzzLoad takes a fragment through everything: what is said of it is the same
// each time, and what is accepted is no change to itself.
func FuzzLoad(f *testing.F) {
	seeds(f, ".hcl", server, `bootstrap_expect = 3, retry_join = ["provider=x", "{{ two }}"], encrypt = "c2hvcnQ="`,
		`serf_lan_allowed_cidrs = ["10.0.0.0/8", "x"], node_meta { "a b" = "c" "d e" = "f" }`,
		`watches = [{ type = "service", service = "a", tag = ["b"], handler_type = "http", http_handler_config { path = "x" } }, { type = "key" }]`,
		`services = [{ name = "a", checks = [{ ttl = "1s" }, { id = "c", grpc = "x", interval = "1ms" }] }], check { id = "c", args = ["x"], interval = "1s" }`,
		`verify_incoming = true, tls_min_version = "tls12", acl_replication_token = "x", start_join = ["a"], ui = true`,
		`{"service": {"name": "a", "check": {"DeregisterCriticalServiceAfter": "1h", "alias_service": "b"}}, "server": false}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, dev := range []bool{true, false} {
			s := Sources{Dev: dev, HCL: []string{string(text)}}
			c, err := load(s, testHost("10.0.0.1"))
			again, errAgain := load(s, testHost("10.0.0.1"))
			if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
				t.Fatalf("two loads of %q say\n%v\n%v", text, err, errAgain)
			}
			if err != nil {
				continue
			}
			if !slices.Equal(c.Warnings, again.Warnings) {
				t.Errorf("two loads of %q warn\n%q\n%q", text, c.Warnings, again.Warnings)
			}
			if report := Compare(c, c, again); len(report.Applied)+len(report.Restart) > 0 {
				t.Errorf("%q changes itself: %+v", text, report)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	seeds(f, ".json", `{"a": [1, 2.5e3, null, true, {"b": "\ud83d\ude00"}]}`, `{"a": "\ud800"}`, `{"services": [{"name": "a"}]}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		// What is accepted is what encoding/json accepts.
		if root := digest(t, formatJSON, text); root != nil && len(text) > 0 && text[0] == '{' && !json.Valid(text) {
			t.Errorf("%q is no JSON", text)
		}
	})
}
