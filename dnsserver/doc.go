// Package dnsserver answers DNS over UDP and TCP from the catalog: it parses a
// name to a small struct, looks it up, builds records and trims them.
//
//	bytes -> respond -> answer -> resolve -> parseName -> Lookup -> records
//	                      |                                            |
//	bytes <- packer <-----+------------------- trim <------------------+
//
// The sockets are served by loops of our own and not by those of the library,
// which start a goroutine for each packet without a bound, and give a client that
// does not read its reply all the time it likes.
package dnsserver
