package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/config"
)

// printBanner tells people what is about to start, before the log takes over
// the stream.
func printBanner(w io.Writer, cfg *config.Config) {
	fmt.Fprintln(w, "==> Starting Muster agent...")
	rows := bannerRows(cfg)
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%*s: %s\n", width+2, row[0], row[1])
	}
	fmt.Fprint(w, "\n==> Log data will now stream in as it occurs:\n\n")
}

// bannerRows are the labels and values of the banner. Text stands in single
// quotes; what is not known before the start is left out.
func bannerRows(cfg *config.Config) [][2]string {
	quote := func(text string) string { return "'" + text + "'" }
	segment := ""
	if cfg.Server {
		segment = allSegments
	}
	rows := [][2]string{
		{"Version", quote(agent.Version)},
		{"Compatible with", quote("Consul " + agent.CompatVersion)},
		{"Revision", quote(agent.Revision())},
	}
	if cfg.NodeID != "" {
		rows = append(rows, [2]string{"Node ID", quote(cfg.NodeID)})
	}
	return append(rows,
		[2]string{"Node name", quote(cfg.NodeName)},
		[2]string{"Datacenter", fmt.Sprintf("%s (Segment: %s)", quote(cfg.Datacenter), quote(segment))},
		[2]string{"Server", fmt.Sprintf("%t (Bootstrap: %t)", cfg.Server, cfg.Bootstrap)},
		[2]string{"Client Addr", fmt.Sprintf("[%s] (HTTP: %d, HTTPS: %d, gRPC: %d, gRPC-TLS: %d, DNS: %d)",
			strings.Join(cfg.ClientAddrs, " "), cfg.Ports.HTTP, cfg.Ports.HTTPS, cfg.Ports.GRPC, cfg.Ports.GRPCTLS, cfg.Ports.DNS)},
		[2]string{"Cluster Addr", fmt.Sprintf("%s (LAN: %d, WAN: %d)", cfg.AdvertiseAddr, cfg.Ports.SerfLAN, cfg.Ports.SerfWAN)},
	)
}
