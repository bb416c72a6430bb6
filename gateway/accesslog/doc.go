// Package accesslog writes a line for each request of a client: as JSON, or as text of name=value pairs.
//
//	entry.go   what a line says
//	encode.go  its two forms, which no input can break
//	log.go     which requests are written, and how
//	sink.go    the file: a buffer, the goroutine that writes it, reopening
//
// # The way of a line
//
// The request's goroutine encodes the line into memory of a pool and appends it, under a mutex, to a buffer of the
// [Sink]. One goroutine takes the buffer every fifth of a second, or when it is half full, and writes it in one go. So
// a request never waits for the file: what finds no room in the buffer is dropped and counted. A line is about 400
// bytes and costs about a microsecond and no allocation.
//
// # Invariants
//
// A line is one line, whatever a client sent: control characters (C0, DEL, C1, and the two line separators of Unicode)
// are escaped, and what is not UTF-8 is replaced by U+FFFD. In the buffer are whole lines only. What a failed write
// tore is ended by the next one that succeeds, before anything else is written. When the file is opened again, the
// lines until then are in the old one, and those from then on in the new one.
//
// # Bounds
//
// A path is cut at 2,048 bytes, any other text at 256, each with … behind it; escaped, a line has at most 32 KiB.
// A sink has two buffers of 1 MiB.
//
// # Failure policy
//
// A file that cannot be written (a full disk, a pipe whose reader has gone) costs its lines, never a request. The
// process's log says so when it begins, once a minute while it lasts, and when it is over, with the number of lines.
// A file that cannot be opened again stays the old one. When the sink is closed, what is in the buffer is written; a
// reader that takes nothing is waited for two seconds.
package accesslog
