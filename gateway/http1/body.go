package http1

import (
	"io"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of a chunked body's overhead. What is beyond them is no message but an attempt to keep us
// busy (CVE-2023-39326).
const (
	chunkDigitsMax  = 16       // of a size, leading zeros among them
	chunkLineMax    = 512      // bytes of a chunk's size and extensions
	extensionsMax   = 16 << 10 // bytes of all extensions of a body
	trailerBytesMax = 8 << 10  // of a response; that of a request is bounded as its head is, as in HTTP/2
)

// The faults of a chunked body.
var (
	faultChunkSize = bad("a chunk's size is not a hexadecimal number on a line of its own")
	faultChunkLong = bad("a chunk's size or its extensions are too long")
	faultChunkEnd  = bad("a chunk does not end where its size says")
	faultTrailer   = bad("the trailer section is malformed or too long")
)

// body reads the body of one message from a connection's buffer and the connection.
type body struct {
	in      *buffer
	from    io.Reader
	left    int64 // of the body, or of the chunk
	kind    bodyKind
	begun   bool // chunked: a chunk was read whose end is to come
	ext     int  // bytes of extensions so far
	err     error
	trailer filters.Header
	// trailerMax is how many bytes the trailer section may have.
	trailerMax int
	// nominated is what the head's Connection field names: nothing of it is passed on, from the
	// trailer section neither.
	nominated string
}

type bodyKind uint8

const (
	noBody bodyKind = iota // or one that was read to its end
	sized
	inChunks
	toClose
)

// start sets the body up by its length in the head.
func (b *body) begin(in *buffer, from io.Reader, length int64, nominated string) {
	*b = body{
		in: in, from: from, left: length, trailer: b.trailer[:0], trailerMax: trailerBytesMax, nominated: nominated,
	}
	switch {
	case length > 0:
		b.kind = sized
	case length == chunked:
		b.kind, b.left = inChunks, 0
	case length == untilClose:
		b.kind = toClose
	}
}

// done reports whether all of the body has been read.
func (b *body) done() bool { return b.kind == noBody && b.err == nil }

// buffered reports whether all of the rest lies in the buffer already, so that reading it takes no
// time. Of chunked bodies it is not known.
func (b *body) buffered() bool {
	return b.kind == noBody || b.kind == sized && b.left <= int64(b.in.w-b.in.r)
}

// directMin is the length of a buffer of the caller's from which on it is read into without a copy.
const directMin = 2 << 10

// Read implements [io.Reader]. The error is io.EOF behind the last byte, io.ErrUnexpectedEOF for a
// body that ends early, a [Fault] for one that is malformed, or one of the connection. Errors stay.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	switch b.kind {
	case noBody:
		return 0, io.EOF
	case inChunks:
		if b.left == 0 {
			if err := b.nextChunk(); err != nil {
				return 0, err
			}
			if b.kind == noBody {
				return 0, io.EOF
			}
		}
		fallthrough
	case sized:
		if int64(len(p)) > b.left {
			p = p[:b.left]
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.readSome(p)
	switch {
	case b.kind == toClose:
		if err == io.EOF {
			b.kind = noBody
		}
		return n, err
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	b.left -= int64(n)
	if b.kind == sized && b.left == 0 {
		b.kind = noBody
		return n, nil
	}
	return n, err
}

// readSome reads what there is, from the buffer first.
func (b *body) readSome(p []byte) (int, error) {
	if b.in.empty() {
		if len(p) >= directMin {
			return b.from.Read(p)
		}
		if err := b.in.room(len(b.in.b) + 1); err != nil {
			return 0, err
		}
		if err := b.in.fill(b.from); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.in.unread())
	b.in.r += n
	return n, nil
}

// nextChunk reads the end of a chunk and the size of the next one; behind the last it reads the
// trailer section and ends the body.
func (b *body) nextChunk() error {
	if b.begun {
		if err := b.need(2); err != nil {
			return err
		}
		if rest := b.in.unread(); rest[0] != '\r' || rest[1] != '\n' {
			return faultChunkEnd
		}
		b.in.r += 2
	}
	size, err := b.chunkLine()
	if err != nil {
		return err
	}
	b.begun, b.left = true, size
	if size > 0 {
		return nil
	}
	if err := b.readTrailer(); err != nil {
		return err
	}
	b.kind = noBody
	return nil
}

// need fills the buffer until n bytes are unread.
func (b *body) need(n int) error {
	for b.in.w-b.in.r < n {
		if err := b.in.room(n); err != nil {
			return err
		}
		if err := b.in.fill(b.from); err != nil {
			return unexpected(err)
		}
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// chunkLine reads a chunk's size line: hexadecimal digits, and extensions that are checked for
// their bytes and dropped (RFC 9112 §7.1).
func (b *body) chunkLine() (int64, error) {
	var size int64
	i, digits := 0, 0
	for extension := false; ; i++ {
		if err := b.need(i + 1); err != nil {
			return 0, err
		}
		c := b.in.b[b.in.r+i]
		switch {
		case c == '\r':
			if err := b.need(i + 2); err != nil {
				return 0, err
			}
			if b.in.b[b.in.r+i+1] != '\n' || digits == 0 {
				return 0, faultChunkSize
			}
			b.in.r += i + 2
			return size, nil
		case i >= chunkLineMax:
			return 0, faultChunkLong
		case extension:
			if !message.ValueByte(c) {
				return 0, faultChunkSize
			}
			if b.ext++; b.ext > extensionsMax {
				return 0, faultChunkLong
			}
		case isHex(c):
			if size >= 1<<58 { // another digit would overflow
				return 0, faultChunkLong
			}
			size = size<<4 | hexDigit(c)
			if digits++; digits > chunkDigitsMax {
				return 0, faultChunkLong
			}
		case c == ';' && digits > 0:
			extension = true
		default:
			return 0, faultChunkSize
		}
	}
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func hexDigit(c byte) int64 {
	switch {
	case c <= '9':
		return int64(c - '0')
	case c <= 'F':
		return int64(c-'A') + 10
	}
	return int64(c-'a') + 10
}

// readTrailer reads the trailer section; the fields that may stand there are kept.
func (b *body) readTrailer() error {
	if err := b.need(2); err != nil {
		return err
	}
	if rest := b.in.unread(); rest[0] == '\r' && rest[1] == '\n' { // nearly always
		b.in.r += 2
		return nil
	}
	for {
		b.trailer = b.trailer[:0]
		n, err := fields(b.in.unread(), 0, &b.trailer, nil, nil, b.nominated)
		if err == nil && n <= b.trailerMax {
			b.in.consume(n)
			return nil
		}
		if err != errMore {
			return faultTrailer
		}
		if err := b.in.room(b.trailerMax); err == errFull {
			return faultTrailer
		} else if err != nil {
			return err
		}
		if err := b.in.fill(b.from); err != nil {
			return unexpected(err)
		}
	}
}

// appendChunkSize appends the line that begins a chunk.
func appendChunkSize(dst []byte, n int) []byte {
	const digit = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digit[n>>shift&15])
	}
	return append(dst, '\r', '\n')
}
