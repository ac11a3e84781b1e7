// Package rpc owns the one server port of an agent: it takes connections,
// learns from their first bytes what they want and of whom, and hands them to
// the part that serves it. It also carries the calls that agents make to
// servers, [Client.Apply] and [Client.Query], and brings those that come in to
// a [Handler].
//
// Every connection begins with a hello of the dialer, which is answered before
// anything else is sent:
//
//	hello     [protocol 1][form 1][cluster ID 16][length 1][target's node ID]
//	answer    [status 1]                                       when accepted
//	          [status 1][cluster ID 16][length 1][node ID]     when refused
//
// So a connection that reached the wrong server, or a server of another
// cluster, ends with an error that names both sides, and never with bytes that
// one side misreads. A cluster ID of zeros means that the side does not know
// it yet, and matches any.
package rpc
