// Package http2 is HTTP/2 on both sides of the gateway (RFC 9113, RFC 7541): [Server] serves
// connections of clients, which package http1 accepts and hands over, [Client] is a connection to a
// service. A [Stream] carries the same exchange and the same [message.Message] as a request of
// http1.
//
// # Why it is our own
//
// With net/http on the ingress a request cost 0.95 times what its ReverseProxy costs, and h2spec
// failed four to five of its 145 cases. With this package, in one run on one processor: HTTP/2 to
// HTTP/1.1 24 µs against 53 µs (0.44), a unary gRPC call over HTTP/2 on both sides 43 µs against 74
// µs (0.59; between 0.56 and 0.71 while it was built); 1 and 6 allocations a request against 97 and
// 137. Of a gRPC call's share a profile gives the kernel 73 %, for the sockets and the sleep
// between, and 16 % of all to the runtime's monitor, which runs while a process is not busy: the
// service of that measurement, and not the gateway, is what the calls wait for.
//
// # How it works
//
//	server.go      connections of clients, the handlers; serverconn.go one connection
//	request.go     a request as the handler sees it; response.go the way back
//	client.go      a connection to a service
//	exchange.go    a request and its response on one; upload.go the request's body
//	conn.go        what both sides share: the life of a connection
//	process.go     each kind of frame; stream.go the state of a stream
//	flow.go        flow control: windows, and the writers that wait for them
//	reader.go      the way in; writer.go the way out
//	head.go        heads; frame.go and hpack.go the wire
//
// A connection has one goroutine, which reads; each request has one, from a pool of goroutines
// whose stacks have grown. All state of a connection is under one mutex. Frames are appended to one
// buffer, and a goroutine that lives as long as there is something to send writes it: it lets other
// goroutines run first, so that one system call takes the frames of many streams. No other
// goroutine ever waits for a socket, the readers above all, so two peers that both write cannot
// deadlock. A head waits a millisecond at most for the beginning of its body.
//
// A request whose body is announced and fits in a frame is not served before the body is there, or
// a second has passed: both then go out in one piece, without a goroutine that streams them.
//
// Heads are written without HPACK's dynamic table and without Huffman's code, which costs bytes on
// the wire and saves time and the copies of strings that live no longer than their exchange.
// Strings of received heads are the decoder's own, so they may be kept.
//
// # Bounds
//
// Of what a peer sends: frames of 16 KiB, 1 MiB of unread bodies a connection and 256 KiB a stream;
// heads of MaxHeader bytes (64 frames and twice the bytes while they are packed), 256 fields, a
// table of 4 KiB; MaxStreams handlers, which count until they return whatever became of their
// stream. Of what it does not take: 64 KiB of bodies a connection, beside what is being written,
// 256 KiB of responses to control frames. Streams wait for room in turn, one frame each; one whose
// window is closed is passed over.
//
// 5000 frames that make no progress (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
// ones), or 200 streams that were begun and not ended, beyond those that were answered, end the
// connection with ENHANCE_YOUR_CALM. An idle connection holds no buffer.
//
// # Failure policy
//
// What RFC 9113 calls malformed is answered with RST_STREAM, and with GOAWAY where the connection's
// state is in doubt; nothing is repaired. What is sound in HTTP/2 and cannot be carried on is the
// handler's to refuse. A peer that for IdleTimeout neither sends what is waited for nor takes what
// is sent loses the stream, or the connection when it takes nothing at all. A service has the times
// that it has over HTTP/1.1: for the head, for each piece of an upload, and of silence within a
// body. Streams that a service has refused, or was going away without having processed, are reported
// as not sent.
package http2
