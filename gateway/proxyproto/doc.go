// Package proxyproto reads the PROXY protocol header, version 2, with which a load balancer
// says whose connection it forwards.
//
// The semantics are those of HAProxy's "The PROXY protocol", section 2.2: 16 fixed bytes
// (signature, version and command, family and transport, length), the addresses, then
// type-length-value fields. Version 1, the text form, is refused: it has no length, so that its end
// has to be searched for.
//
//   - LOCAL, and a connection of no known family (UNSPEC): the connection's own addresses hold.
//     What follows the fixed bytes is skipped, whatever it is.
//   - PROXY over TCP: the addresses in the header. An IPv4 address mapped into IPv6 is given as
//     IPv4, so that address blocks match it in both forms.
//   - PROXY over a UNIX socket: no address is given.
//   - Datagrams, other families and other commands are refused.
//
// Fields are skipped but for the CRC32C of the header, which has to be right where there is one.
// That holds for LOCAL and UNSPEC too, as far as what follows is fields: a flipped bit in
// the command must not go unnoticed.
//
// # Invariants
//
// Nothing is read beyond the header: the next byte of the connection is the client's. What cannot
// become a header is refused at its first wrong byte.
//
// # Bounds
//
// Fixed bytes and at most 4 KiB behind them, since who may send a header is configured, but its
// length is what the sender says. Parse allocates nothing but its errors. Time is the caller's: it
// sets the deadline.
//
// # Failure policy
//
// A connection that must have a header and has no valid one is closed by the caller: nobody knows
// whose it is.
package proxyproto
