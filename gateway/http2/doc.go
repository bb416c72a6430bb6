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
// 137. Since then sockets are read and written without a word to the scheduler ([message.Socket]):
// the runtime's monitor, which each such word woke, had a quarter of a gRPC call.
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
//	account.go     what counts against a client's account; pace.go its least rate
//	ended.go       streams that were ended by this side; bucket.go what floods fill
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
// window is closed is passed over. A service's connection gives its window back when a body comes
// and not when it is read, so that no client holds up the others: its streams' windows bound it.
//
// # Memory of all connections
//
// All of that together would be more than there is, so it is drawn on the client's account of the
// process's budget (package budget), by the capacity that is allocated, and given back with it:
//
//   - the head of a stream, from the time when it is decoded until its handler returns. It counts as
//     its size by RFC 9113 §6.5.2, 32 bytes a field, since an index of one byte on the wire may
//     stand for kilobytes; a long one counts twice, as it is written out again to the service.
//     Without room the stream is reset with REFUSED_STREAM: nothing has been processed, and the
//     client may send it again.
//   - the body of a request or a response that waits to be read. Without room a request that no
//     handler has yet is reset with REFUSED_STREAM; else what comes of the body is dropped and
//     reading it returns [filters.ErrOverloaded], so that the handler can say 503. A response is
//     given up with CANCEL, and reading it returns the same.
//   - output, beyond 4 KiB a connection, which each may write whatever else there is, or nothing
//     would ever be given back. Without room streams wait as for a full buffer.
//   - a part of a frame, or of a head, that is waited for. Without room the connection ends with
//     ENHANCE_YOUR_CALM.
//
// While less than 256 KiB are left to a client its streams get windows of one frame, and memory is
// given back whenever it is empty. Not counted is what bounds itself by the number of connections:
// the table and the state of each, about 10 KiB. An idle connection holds no buffer.
//
// # Floods, and clients that are slow on purpose
//
// Frames that make no progress (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones),
// 5000 and 500 a second, and streams that the client began and ended, or made the server end
// (CVE-2023-44487, CVE-2025-8671), 200 and 20 a second, end the connection with ENHANCE_YOUR_CALM.
// Both are leaky buckets: nothing adds up over the life of a connection. A stream that was
// cancelled after the head of its response is no such one, and one that was answered makes up for
// another.
//
// Over 30 s of waiting for a client a stream has to move MinRate, or it is reset: a body that is
// sent to it by the windows that it opens, a body that it sends by what has come. The time in which
// the service is waited for does not count, nor that in which the client may not send. How much a
// socket takes only the kernel knows, behind its buffers: a connection that takes less than MinRate
// ends, and of the streams that wait for one the last are cut off that it does not take enough for.
// A call of gRPC may have nothing to say between two messages, where its silence alone is bounded.
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
//
// A stream's fault is found, and its reset queued, in one critical section: nothing that its handler
// writes comes behind it. A request whose response was whole before is held to what a request may
// be for a while all the same, so that its client learns of a fault whichever came first.
//
// Connections without a stream are idle: they end after IdleTimeout, and give way to new ones when
// the listener runs out of places ([message.Waiting]), with GOAWAY before.
package http2
