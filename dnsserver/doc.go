// Package dnsserver answers DNS over UDP and TCP from the catalog: it parses a
// name to a small struct, looks it up, builds records and trims them.
package dnsserver
