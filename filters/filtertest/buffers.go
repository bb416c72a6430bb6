package filtertest

import "github.com/sluice-gateway/sluice/filters"

// Buffers stand for those of a connection: the strings and bytes of an exchange lie in them, and
// the next request overwrites them. The zero value is ready; it is not safe for concurrent use.
type Buffers struct{ all [][]byte }

// Bytes returns s in a buffer.
func (b *Buffers) Bytes(s string) []byte {
	p := []byte(s)
	b.all = append(b.all, p)
	return p
}

// Text returns s as a string whose bytes are overwritten by Overwrite.
func (b *Buffers) Text(s string) string { return filters.Alias(b.Bytes(s)) }

// Header moves the names and values of a header into buffers.
func (b *Buffers) Header(h filters.Header) {
	for i := range h {
		h[i] = filters.Field{Name: b.Text(h[i].Name), Value: b.Text(h[i].Value)}
	}
}

// Request moves what an engine has put into an exchange into buffers.
func (b *Buffers) Request(x *filters.Exchange) {
	for _, s := range []*string{&x.Method, &x.Scheme, &x.Version, &x.Host, &x.Path, &x.RawQuery, &x.Principal} {
		*s = b.Text(*s)
	}
	b.Header(x.Header)
	for i := range x.Params {
		x.Params[i].Value = b.Text(x.Params[i].Value)
	}
}

// Overwrite is the next request: code that still reads the last one's strings finds other bytes
// there, or is found by the race detector.
func (b *Buffers) Overwrite() {
	for _, p := range b.all {
		for i := range p {
			p[i] = '#'
		}
	}
	b.all = nil
}
