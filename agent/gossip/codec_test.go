package gossip

import (
	"bytes"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func serverTags() map[string]string {
	return map[string]string{
		"role": RoleServer, "dc": "dc1", "id": nodeID(1), "build": "1.22.0-beta1:abcdef12", "segment": "", "vsn": "2",
		"vsn_min": "2", "vsn_max": "3", "port": "8300", "wan_join_port": "8302", "raft_vsn": "3", "bootstrap": "1",
		"expect": "3", "acls": "1", "use_tls": "1", "grpc_port": "8502", "grpc_tls_port": "8503", "ft_fs": "1",
		"ft_si": "1", "rc_tm": "72h0m0s", "own": "tag",
	}
}

func TestTagsAreSmall(t *testing.T) {
	m := meta{life: 1 << 63, tags: serverTags()}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 180 {
		t.Errorf("all tags of a server take %d bytes", len(b))
	}
	got, err := decodeMeta(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("they come back as %+v, %v", got, err)
	}
}

func TestTagsThatCannotBe(t *testing.T) {
	many := map[string]string{}
	for i := range maxTags + 1 {
		many[strings.Repeat("a", i+1)] = ""
	}
	for name, tags := range map[string]map[string]string{
		"large": {"x": strings.Repeat("y", maxMeta)}, "many": many, "no key": {"": "x"}, "not UTF-8": {"x": "\xff"},
	} {
		if _, err := (meta{tags: tags}).encode(); err == nil {
			t.Errorf("%s: they are taken", name)
		}
	}
	good, err := meta{tags: map[string]string{"role": "x"}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "long": append(bytes.Clone(good), 0), "form": append([]byte{9}, good[1:]...),
		"twice":   {metaForm, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 1, 0},
		"unknown": {metaForm, 0, 0, 0, 0, 0, 0, 0, 0, 1, 99, 0},
	} {
		if m, err := decodeMeta(b); err == nil {
			t.Errorf("%s: it is read as %+v", name, m)
		}
	}
}

func TestTagNumbersAreDistinct(t *testing.T) {
	if len(tagNames) != len(knownTags) {
		t.Error("two tags have one number")
	}
	for name, number := range knownTags {
		if number == 0 || number >= idBinary {
			t.Errorf("the tag %s has the number %d", name, number)
		}
	}
}

func messages() []message {
	return []message{
		{kind: kindLeave, time: 1, name: "a", life: 2, flags: leaveOwn | leavePrune},
		{kind: kindAlive, time: 1 << 40, name: "ä", life: 1 << 63},
		{kind: kindEvent, time: 3, name: "a", id: 9, event: 7, payload: []byte("payload")},
		{kind: kindAsk, time: 3, name: "a", life: 4, from: "b"},
		{kind: kindReport, time: 3, name: "a", life: 4, from: "b"},
		{kind: kindHeard, time: 3, name: "a", life: 4, from: "b"},
		{kind: kindDoubt, time: 4, name: "a", life: 4, from: "b"},
		{kind: kindSilent, time: 5, name: "a", life: 4, from: "b"},
		{kind: kindTaken, time: 6, name: "a", life: 4, from: "b"},
		{kind: kindCluster, time: 7, name: "a", life: 4, from: "b"},
	}
}

func TestMessagesComeBack(t *testing.T) {
	for _, m := range messages() {
		b := m.encode()
		got, err := decodeMessage(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
		for i := range b {
			if _, err := decodeMessage(b[:i]); err == nil {
				t.Errorf("%d of %d bytes of %+v are read", i, len(b), m)
			}
		}
		if _, err := decodeMessage(append(b, 0)); err == nil {
			t.Errorf("a byte after %+v is passed over", m)
		}
	}
	largest := message{
		kind: kindEvent, time: maxTime - 1, name: strings.Repeat("n", maxName), life: 1, id: 1, payload: make([]byte, MaxEvent),
	}.encode()
	if limit := packetSize - 100; len(largest) > limit+60 {
		t.Errorf("the largest event takes %d bytes", len(largest))
	}
}

func exchanged() exchange {
	m, _ := meta{life: 3, tags: serverTags()}.encode()
	return exchange{clock: 7, name: "a", life: 8, shared: []shared{
		{name: "b", addr: netip.MustParseAddr("192.0.2.1"), port: 8301, meta: m, status: Failed, age: time.Minute},
		{name: "c", addr: netip.MustParseAddr("2001:db8::1"), port: 1, meta: m, status: Left, leaveAt: 4, aliveAt: 3, flags: leaveOwn},
	}}
}

func TestExchangesComeBack(t *testing.T) {
	e := exchanged()
	got, err := decodeExchange(e.encode())
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("it comes back as %+v, %v", got, err)
	}
}

func TestAddressForms(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:8301", "192.0.2.1:9": "192.0.2.1:9", "2001:db8::1": "[2001:db8::1]:8301",
		"[2001:db8::1]": "[2001:db8::1]:8301", "[2001:db8::1]:9": "[2001:db8::1]:9", "::ffff:192.0.2.1": "192.0.2.1:8301",
		" 192.0.2.1 ": "192.0.2.1:8301",
	} {
		p := &Pool{addr: netip.MustParseAddrPort("127.0.0.1:8301")}
		got, err := p.expand(t.Context(), address)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%q stands for %v, %v, want %s", address, got, err, want)
		}
	}
	for _, address := range []string{"", ":80", "host:", "host:0", "host:65536", "host:x", "a:b:c:d:e:f:g:h:i", "[::1]:x", "[::1"} {
		if host, port, err := splitAddress(address, 1); err == nil {
			t.Errorf("%q is read as %s, port %d", address, host, port)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a", "a:1", "[::1]:2", "::1", "1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := splitAddress(s, 8301)
		if err == nil && (host == "" || port == 0) {
			t.Errorf("%q is read as host %q, port %d", s, host, port)
		}
	})
}

func FuzzMeta(f *testing.F) {
	b, _ := meta{life: 9, tags: serverTags()}.encode()
	f.Add(b)
	f.Add([]byte{metaForm, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			return // a known key spelt out may need more room
		}
		got, err := decodeMeta(again)
		if err != nil || got.life != m.life || !maps.Equal(got.tags, m.tags) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		got, err := decodeMessage(m.encode())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
	})
}

func FuzzExchange(f *testing.F) {
	f.Add(exchanged().encode())
	f.Add(exchange{name: "a"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeExchange(b)
		if err != nil {
			return
		}
		got, err := decodeExchange(e.encode())
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v comes back as %+v, %v", e, got, err)
		}
		p := newTestPool()
		p.merge(e, time.Unix(1e9, 0))
		for _, r := range p.table {
			if r.name != p.name && (r.status < Alive || r.status > Failed) {
				t.Errorf("it made %+v", r)
			}
		}
	})
}

// newTestPool returns a pool without a network.
func newTestPool() *Pool {
	p, err := newPool(Config{Self: Member{Name: "self", ID: nodeID(0)}, Datacenter: "dc1"})
	if err != nil {
		panic(err)
	}
	p.leaving = true // so that nothing is sent
	p.table[p.name] = &record{name: p.name, answers: true, status: Alive, raw: p.selfMeta, meta: meta{life: p.life}}
	return p
}
