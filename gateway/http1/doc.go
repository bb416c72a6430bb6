// Package http1 is the gateway's HTTP/1.x on both sides: [Server] takes requests from clients,
// [Client] carries them to services (RFC 9110, RFC 9112). It knows messages and connections; what
// is done with a request is its [Handler]'s business.
//
// # Why not net/http
//
// It costs four to five times what nginx does, and is not strict enough: it drops a Content-Length
// beside a Transfer-Encoding and goes on, takes folded lines and bare line feeds, and resends
// requests by itself. Here nothing doubtful is repaired or passed on.
//
// # What is refused
//
// Anything but one reading. Requests: two hosts or none, Content-Length that is not one run of
// digits, any transfer coding but chunked alone, both of them, line ends without CR, folded lines,
// names that are no tokens, control bytes, targets with anything but visible ASCII, CONNECT and
// TRACE, versions other than 1.x, an expectation other than 100-continue. Chunk sizes have up to 15
// digits that count, no space; extensions are checked and dropped. The responses of services are
// held to the same rules: one that breaks them is an error and its connection is closed. Fields of
// one connection, those that Connection names, and those that a careless reader takes for framing
// (Transfer_Encoding) end here, in trailers too. The response to a fault has the status that RFC
// 9110 gives (400, 414, 417, 431, 501, 505) and the connection is closed behind it, with time for
// the client to read (RFC 9112 §9.6).
//
// # How it works
//
// A goroutine a client connection; it parses in place (strings are parts of the buffer, nothing is
// copied or allocated), calls the handler, and uses the service's connection itself. A second
// goroutine exists only while a body that has not come whole streams to the service, so that the
// service can answer before its end, and for the second direction of a tunnel.
//
//	server.go      listeners, the table of connections, the clock, clients that left, shutdown
//	conn.go        a connection: waiting and serving; open.go its beginning, and HTTP/2
//	deadlines.go   deadlines; rate.go the least rate of a client; linger.go behind the last response
//	slots.go       which connections give way when there are too many
//	head.go        reading a request's head; parse.go heads, body.go bodies and chunks
//	request.go     the request as the handler sees it; response.go the way back
//	client.go      a connection to a service; keepalive.go what the service says of how long it lasts
//	exchange.go    a request and its response on one; upload.go the request's body
//	splice.go      long bodies from socket to socket: responses; splice_upload.go requests
//	pipes.go       the pipes for it; pipe_linux.go one of them
//	tunnel.go      after 101
//
// # What it costs, and what made it cheap
//
// A request through all filters is 80 % kernel: two sends, two receives, and their share of a poll.
// What was learned on the way, each measured on one core with 64 connections beside nginx
// (bench/RESULTS.md has the figures):
//
//   - The poller's loop ([syscall.RawConn].Read) remembers a sign of readability that comes
//     while its callback runs. So requests that are whole with one read are served inside the
//     callback: no read in vain before each wait, which is a system call and a half a request.
//     Whatever needs a second read from the client (a longer body, an upgrade, 100-continue)
//     leaves the loop first.
//   - The same for the service: the request is written inside the loop and the goroutine parked
//     at once, without the read that would find nothing.
//   - Sends and receives of non-blocking sockets by RawSyscall: the scheduler's bookkeeping
//     about a call costs as much as entering the kernel. And one such call a request is enough to keep
//     the runtime's monitor (sysmon) awake, in a process that rests now and then: that took 5 % of
//     the time, and the switches between threads that it forced 3 %.
//   - One write for head and body, one copy of each field from buffer to buffer.
//   - Deadlines are coarse: moved when a third of their time has gone, and not for each request.
//   - A client that leaves is found by a check of the sockets of requests that take longer than a
//     tick (100 ms), not by a goroutine that waits for it.
//   - Reading the clock is among the most expensive things left (40 ns): once a stage.
//   - An idle connection has no buffer but what package tls keeps, and waits on a goroutine that has
//     not served yet: serving grows the stack to 8 KiB, waiting needs 2. So after its first request,
//     and after a second of idling, the goroutine is replaced.
//   - Pooled objects carry their buffers inside: one Get and Put a side.
//   - Long bodies are spliced (splice(2)) between two sockets in clear text: the kernel moves the
//     pages, and no byte of them comes into this process. What was read with the head goes out in
//     front, kept back by MSG_MORE, so that the client wakes once for both. Where that cannot be, with
//     TLS or for a filter that keeps the body, they go through a buffer of 64 KiB. Below 16 KiB a copy
//     is as cheap. A piece of a response has up to 256 KiB, since the price of one lies in its calls and
//     in waking the client; longer ones and larger pipes gain nothing. Tunnels are spliced too.
//   - What did not help: profile-guided optimisation (within the noise).
//
// Under the race detector memory that is given back is overwritten, so that a string which was kept
// too long shows.
//
// # Bounds
//
// A head: Options.MaxHeader bytes and [message.FieldsMax] fields; a response's head 256 KiB, at most
// 32 interim responses; a chunk's line 512 bytes, extensions 16 KiB a body, a trailer section as much
// as a head in a request and 8 KiB in a response.
//
// Memory: about 3 KiB an idle connection in clear text, 12 KiB with TLS (two ciphers and what its
// handshake was read into, which package tls keeps), 16 KiB more while a request is served plus the
// service's side of it, 64 KiB while a body passes that is copied. What a head has beyond 4 KiB, and the buffer that
// an upload passes through, is drawn on the connection's account (package budget).
//
// Pipes: Options.Pipes, each two descriptors and 64 pages at most. A user without privileges may have
// 16,384 pages in pipes (pipe(7)); beyond them the system makes pipes that are too small to be used. A
// pipe is lent for a piece, from its coming to its going, and never while a peer is waited for that sends
// nothing. While it is filled, what may come is drawn on the account, and from then on what came: up to
// 256 KiB of a response; 64 KiB of a request, for a client that had to be waited for with the piece
// before, and where the account has less room. Without a pipe, or room, the piece is copied. One that is
// given back with something in it is closed. Where the system does not splice at all the first piece
// finds out, and all are copied from then on.
//
// Connections: Options.Slots; when all are taken, one on which nothing is under way gives way to a
// newcomer (see [Slots]).
//
// # Failure policy
//
// A client that is slow with a head is cut off after HeaderTimeout; one that is slow with a body,
// or with taking the response, after IdleTimeout without a byte, and up to a third later; or after
// 30 s in which it was waited for and moved less than MinRate, as the kernel counts it. A client
// whose upload is refused has up to 30 s to send the rest, while bytes come; 5 s of silence end it. A
// response that breaks half-way breaks the client's connection: a part never looks like the whole.
// A service has the timeout for the head of its response, all of it, and to take each piece of an
// upload; then it may be silent for as long within the body, or for what [Response.Stream] gives a
// stream. The time that the client takes is not the service's.
// Out of descriptors, accepting pauses (5 ms to 1 s) and those connected are served. A panic of the
// handler ends one connection.
package http1
