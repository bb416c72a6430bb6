package rawhttp

import (
	"strings"
)

// reader is a way in which some server reads a connection. The zero value reads by RFC 9112.
type reader struct {
	name        string
	lenient     bool // leading line ends are skipped, "chunked" is found anywhere, chunks are read leniently
	lengthFirst bool // Content-Length goes before Transfer-Encoding
	lastLength  bool // of several lengths the last one counts
	bareCR      bool // a CR alone ends a line
	foldedNames bool // _ stands for -, as in CGI and WSGI
}

// readers are the strict one and the lenient ones; each has been somebody's bug.
var readers = []reader{
	{name: "strict"},
	{name: "lenient Transfer-Encoding", lenient: true},
	{name: "first Content-Length", lenient: true, lengthFirst: true},
	{name: "last Content-Length", lenient: true, lengthFirst: true, lastLength: true},
	{name: "bare CR", lenient: true, bareCR: true},
	{name: "folded names", lenient: true, foldedNames: true},
}

// requestsMax bounds how many requests are read from one connection.
const requestsMax = 50

// requests returns "METHOD target" of every request that the reader finds in the bytes of a
// connection.
func (r reader) requests(b []byte) []string {
	var found []string
	for len(found) < requestsMax {
		for r.lenient && len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
			b = b[1:]
		}
		h, rest, ok := cutHead(b)
		if !ok {
			break
		}
		method, target := h.requestLine()
		if method == "" || len(method) > 20 || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			break
		}
		found = append(found, method+" "+target)
		n, ok := r.skipBody(h, rest)
		if !ok {
			break
		}
		b = rest[n:]
	}
	return found
}

// skipBody returns how many bytes the reader takes for the body; false when it waits for more, or
// gives up.
func (r reader) skipBody(h head, rest []byte) (int, bool) {
	lengths, chunked := r.framing(h)
	if chunked && !(r.lengthFirst && len(lengths) > 0) {
		chunks := strictChunks
		if r.lenient {
			chunks = lenientChunks
		}
		_, used, s := chunks.read(rest)
		return used, s == complete
	}
	if len(lengths) == 0 {
		return 0, true
	}
	n := r.length(lengths)
	return n, n <= len(rest)
}

func (r reader) framing(h head) (lengths []string, chunked bool) {
	if r.bareCR {
		h = head(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(h)))
	}
	for _, f := range h.fields() {
		name := strings.ToLower(strings.Trim(f.name, " \t\r\x00\x0b\x0c"))
		if r.foldedNames {
			name = strings.ReplaceAll(name, "_", "-")
		}
		switch name {
		case "content-length":
			lengths = append(lengths, strings.TrimSpace(f.value))
		case "transfer-encoding":
			if r.lenient {
				chunked = chunked || strings.Contains(f.lower(), "chunked")
			} else {
				chunked = chunked || f.lower() == "chunked"
			}
		}
	}
	return lengths, chunked
}

// length reads the digits that the chosen value begins with, 0 without any.
func (r reader) length(lengths []string) int {
	v := lengths[0]
	if r.lastLength {
		v = lengths[len(lengths)-1]
		v = strings.TrimSpace(v[strings.LastIndexByte(v, ',')+1:])
	}
	n, _ := length(v[:len(v)-len(strings.TrimLeft(v, "0123456789"))])
	return n
}
