package rawhttp

import (
	"bytes"
	"strconv"
	"strings"
)

// field is a line of a header as it came, with its colon.
type field struct{ name, value string }

// lower returns the value as codings and lengths are compared.
func (f field) lower() string { return strings.ToLower(strings.Trim(f.value, " \t")) }

// head is the part of a message before its empty line: start line and fields, each with its line
// end.
type head string

// cutHead splits off a head, which ends at the first empty line, written with or without CR. ok is
// false while there is none.
func cutHead(b []byte) (h head, rest []byte, ok bool) {
	crlf, lf := bytes.Index(b, []byte("\r\n\r\n")), bytes.Index(b, []byte("\n\n"))
	switch {
	case crlf >= 0 && (lf < 0 || crlf < lf):
		return head(b[:crlf+2]), b[crlf+4:], true
	case lf >= 0:
		return head(b[:lf+1]), b[lf+2:], true
	}
	return "", b, false
}

// requestLine returns method and target; what stands after the last space is the version.
func (h head) requestLine() (method, target string) {
	line, _, _ := strings.Cut(string(h), "\n")
	method, rest, _ := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
	if i := strings.LastIndexByte(rest, ' '); i >= 0 {
		rest = rest[:i]
	}
	return method, rest
}

// status returns the status code of a response, 0 when it has none.
func (h head) status() int {
	words := strings.SplitN(string(h), " ", 3)
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(words[1]))
	if err != nil {
		return 0
	}
	return n
}

func (h head) fields() []field {
	_, lines, _ := strings.Cut(string(h), "\n")
	var fields []field
	for line := range strings.SplitSeq(lines, "\n") {
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		fields = append(fields, field{name, value})
	}
	return fields
}

// framing holds the fields that say where a body ends.
type framing struct{ lengths, codings []string }

func (h head) framing() (f framing) {
	for _, x := range h.fields() {
		switch strings.ToLower(x.name) {
		case "content-length":
			f.lengths = append(f.lengths, x.lower())
		case "transfer-encoding":
			f.codings = append(f.codings, x.lower())
		}
	}
	return f
}

// state says how much of a message is there.
type state int

const (
	complete state = iota
	partial
	doubtful // its end cannot be told for certain
)

// strictBody frames what follows the head of a request by RFC 9112 §6.3; used is how much of rest
// belongs to the message.
func strictBody(h head, rest []byte) (body []byte, used int, s state) {
	f := h.framing()
	switch {
	case len(f.lengths)+len(f.codings) > 1:
		return nil, 0, doubtful
	case len(f.codings) == 1:
		if f.codings[0] != "chunked" && !strings.HasSuffix(f.codings[0], ", chunked") {
			return nil, 0, doubtful
		}
		return strictChunks.read(rest)
	case len(f.lengths) == 1:
		n, ok := length(f.lengths[0])
		if !ok {
			return nil, 0, doubtful
		}
		if len(rest) < n {
			return nil, 0, partial
		}
		return rest[:n], n, complete
	}
	return nil, 0, complete
}

func length(digits string) (int, bool) {
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// chunkReader reads a chunked body, by the grammar or as lenient servers do.
type chunkReader struct{ lenient bool }

var strictChunks, lenientChunks = chunkReader{}, chunkReader{lenient: true}

func (r chunkReader) read(b []byte) (body []byte, used int, s state) {
	for {
		line, n, s := r.line(b[used:])
		if s != complete {
			return nil, 0, s
		}
		used += n
		size, ok := r.size(line)
		if !ok {
			return nil, 0, doubtful
		}
		if size == 0 {
			n, s := r.trailers(b[used:])
			return body, used + n, s
		}
		if len(b)-used < size+2 {
			return nil, 0, partial
		}
		body = append(body, b[used:used+size]...)
		used += size
		switch end := b[used : used+2]; {
		case string(end) == "\r\n":
			used += 2
		case !r.lenient:
			return nil, 0, doubtful
		case end[0] == '\n':
			used++
		default:
			used += 2
		}
	}
}

// line takes one line and returns it without its end.
func (r chunkReader) line(b []byte) (line string, used int, s state) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return "", 0, partial
	}
	line, crlf := strings.CutSuffix(string(b[:i]), "\r")
	if !r.lenient && (!crlf || strings.ContainsAny(line, "\r\x00")) {
		return "", 0, doubtful
	}
	return line, i + 1, complete
}

func (r chunkReader) size(line string) (int, bool) {
	digits, _, _ := strings.Cut(line, ";")
	const hex = "0123456789abcdefABCDEF"
	if r.lenient {
		digits = strings.TrimPrefix(strings.TrimSpace(digits), "0x")
		digits = digits[:len(digits)-len(strings.TrimLeft(digits, hex))]
	}
	if strings.Trim(digits, hex) != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 31)
	return int(n), err == nil
}

func (r chunkReader) trailers(b []byte) (used int, s state) {
	for {
		line, n, s := r.line(b[used:])
		if s != complete {
			return 0, s
		}
		used += n
		if line == "" {
			return used, complete
		}
		if !r.lenient && !strings.Contains(line, ":") {
			return 0, doubtful
		}
	}
}
