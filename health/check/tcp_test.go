package check

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/muster-sd/muster/health"
)

func TestTCP(t *testing.T) {
	silent := listen(t, func(net.Conn) {})
	rude := listen(t, func(c net.Conn) { io.WriteString(c, "not TLS at all\r\n\r\n"); c.Close() })
	secure := serveTLS()
	defer secure.Close()
	secureAddress := secure.Listener.Addr().String()

	for _, c := range []struct {
		about  string
		check  Definition
		status health.Status
		part   string
	}{
		{"open", Definition{TCP: silent.address}, "passing", "TCP connect " + silent.address + ": Success"},
		{"closed", Definition{TCP: "127.0.0.1:1"}, "critical", "connection refused"},
		{"no port", Definition{TCP: "127.0.0.1"}, "critical", "missing port in address"},
		{"TLS that says nothing", Definition{TCP: silent.address, TCPUseTLS: true}, "critical", "context deadline exceeded"},
		{"TLS that is none", Definition{TCP: rude.address, TCPUseTLS: true}, "critical", "first record does not look like a TLS handshake"},
		{"TLS of an unknown authority", Definition{TCP: secureAddress, TCPUseTLS: true}, "critical", "certificate signed by unknown authority"},
		{"TLS that is not verified", Definition{TCP: secureAddress, TCPUseTLS: true, TLSSkipVerify: true}, "passing",
			"TCP+TLS connect " + secureAddress + ": Success"},
	} {
		limit := plenty
		if c.about == "TLS that says nothing" {
			limit = enough
		}
		status, output := run(t, newTCPChecker(&c.check, nil, 4096), limit)
		if status != c.status || !strings.Contains(output, c.part) {
			t.Errorf("%s: got %s, %q", c.about, status, output)
		}
	}
	if config := tlsConfig(&Definition{TLSServerName: "example.com"}, nil); config.ServerName != "example.com" || config.InsecureSkipVerify {
		t.Errorf("the TLS settings are %+v", config)
	}
}
