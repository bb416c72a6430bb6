package rawhttp

import (
	"bytes"
	"strings"
)

// response is one response as a strict client reads it.
type response struct {
	status   int
	head     head
	body     []byte
	complete bool
}

// final says whether the response ends an exchange: 101 does, other 1xx do not.
func (r response) final() bool { return r.status < 100 || r.status >= 200 || r.status == 101 }

// responses reads the responses to requests with these methods; the last method stands for all
// further ones. closed says that no more bytes come.
func responses(b []byte, methods []string, closed bool) []response {
	var all []response
	responded := 0
	for len(b) > 0 {
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			break
		}
		r := response{head: head(b[:i+2]), complete: true}
		r.status, b = r.head.status(), b[i+4:]
		if r.final() {
			b = r.readBody(b, methods[min(responded, len(methods)-1)], closed)
			responded++
		}
		all = append(all, r)
	}
	return all
}

// readBody takes the body (RFC 9112 §6.3) and returns what follows it.
func (r *response) readBody(b []byte, method string, closed bool) (rest []byte) {
	f := r.head.framing()
	switch {
	case r.status == 101:
		r.body = b
		return nil
	case method == "HEAD" || r.status == 204 || r.status == 304:
		return b
	case len(f.codings) > 0:
		body, used, s := strictChunks.read(b)
		if s == complete {
			r.body = body
			return b[used:]
		}
		r.complete = false
	case len(f.lengths) > 0:
		n, ok := length(f.lengths[0])
		if ok && n <= len(b) {
			r.body = b[:n]
			return b[n:]
		}
		r.complete = false
	default:
		r.complete = closed
	}
	r.body = b
	return nil
}

func finals(all []response) []response {
	var f []response
	for _, r := range all {
		if r.final() {
			f = append(f, r)
		}
	}
	return f
}

// field returns the value of the last field with that name, in lower case.
func (r response) field(name string) string {
	value := ""
	for _, f := range r.head.fields() {
		if strings.EqualFold(f.name, name) {
			value = f.lower()
		}
	}
	return value
}
