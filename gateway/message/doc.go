// Package message is what HTTP/1.x and HTTP/2 have in common (RFC 9110): messages and their bodies,
// lengths, fields, the context of a request. The engines in http1 and http2 import it and not each
// other.
//
//	message.go   a request on its way to a service, its streamed body, how an exchange fails
//	body.go      lengths, how much of a body may be read, reading one whole
//	upload.go    a streamed body on its way to a service, beside the wait for the response
//	response.go  what is known of a response on its way to the client
//	field.go     the fields that an engine itself reads, hop-by-hop fields, trailers
//	owner.go     whose a field is by its name: anybody's, a proxy's or the gateway's
//	authority.go for which hosts a TLS connection may be used
//	bytes.go     what fields, methods and hosts consist of
//	context.go   the context of a request, and how a wait ends with it
//	spoken.go    how a service's response breaks its protocol, or is of another one
//	conn.go      a connection that one engine hands over to another, and how a connection is closed
//	socket.go    a socket that is read and written without a word to the scheduler
//	sealed.go    TLS on one: when nothing is left in it, writes of many records
//	buffer.go    buffers for bodies on their way through
//
// # Invariants
//
// Nothing here allocates for a request but an upload, and nothing is called by an interface for
// less than a piece of a body. What is read of a message is checked once, by one function for both
// protocols: a length that HTTP/2 refuses is refused in HTTP/1.1.
//
// # Bounds
//
// Lengths have at most [lengthDigitsMax] digits. RFC 9110 §8.6 names no limit, and demands that
// large numbers are not misread: so many fit an int64 with room to spare, for every server behind
// the gateway too. Pooled buffers have 64 KiB.
//
// # Failure policy
//
// A message with two readings is refused by the engine that reads it; nothing is repaired. A
// [Failure] says whether a byte of a request went out, so that callers know whether it can be sent
// again.
//
// Under the race detector memory that is given back is overwritten, so that a string which was kept
// too long shows.
package message
