package gossip

import (
	"testing"
	"time"
)

func TestForgetAfter(t *testing.T) {
	for _, c := range []struct {
		own, tag string
		want     time.Duration
	}{
		{"2h", "", 2 * time.Hour},
		{"2h", "30m", 30 * time.Minute},
		{"2h", "soon", 2 * time.Hour},
		{"2h", "-1s", 2 * time.Hour},
	} {
		own, err := time.ParseDuration(c.own)
		if err != nil {
			t.Fatal(err)
		}
		m := Member{Name: "n2"}
		if c.tag != "" {
			m.Tags = map[string]string{"rc_tm": c.tag}
		}
		p := &Pool{reconnectTimeout: own}
		if got := p.ForgetAfter(&m); got != c.want {
			t.Errorf("%s with a tag of %q: %s, want %s", c.own, c.tag, got, c.want)
		}
	}
}
