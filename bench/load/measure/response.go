package measure

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// headBytesMax bounds the head of a response; no contender's is near it.
const headBytesMax = 16 << 10

var errFraming = errors.New("a response without a usable Content-Length")

// response reads the responses on one connection: status and length, and then counts the body. It
// serves measuring only, so it knows no chunks and no pipelining, which no contender uses here. The
// zero value is ready.
type response struct {
	head   []byte // what came of an incomplete head
	left   int64  // of the body, once the head is whole
	status int    // 0 before the head is whole
}

// feed takes what was read and reports whether the response is whole; its status stands in status
// until the next feed.
func (r *response) feed(b []byte) (done bool, err error) {
	if r.left == 0 {
		if b, err = r.begin(b); err != nil || r.status == 0 {
			return false, err
		}
	}
	if int64(len(b)) > r.left {
		return false, fmt.Errorf("%d bytes more than the response's length", int64(len(b))-r.left)
	}
	r.left -= int64(len(b))
	return r.left == 0, nil
}

// begin reads the head and returns what follows it; status stays 0 while the head is not whole.
func (r *response) begin(b []byte) ([]byte, error) {
	r.status = 0
	if len(r.head) > 0 {
		b = append(r.head, b...)
		r.head = b[:0]
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > headBytesMax {
			return nil, fmt.Errorf("a head of more than %d bytes", headBytesMax)
		}
		r.head = append(r.head[:0], b...)
		return nil, nil
	}
	status, length, err := readHead(b[:end+2])
	if err != nil {
		return nil, err
	}
	r.status, r.left = status, length
	return b[end+4:], nil
}

// readHead returns status and length of a head; each line, also the last, ends with CRLF.
func readHead(head []byte) (status int, length int64, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, 0, fmt.Errorf("a status line %q", line)
	}
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return 0, 0, fmt.Errorf("a status line %q", line)
		}
		status = status*10 + int(d-'0')
	}
	const name = "content-length:"
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) < len(name) || line[0]|0x20 != 'c' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		length, err = strconv.ParseInt(string(bytes.TrimSpace(line[len(name):])), 10, 64)
		if err != nil || length < 0 {
			return 0, 0, errFraming
		}
		return status, length, nil
	}
	return 0, 0, errFraming
}
