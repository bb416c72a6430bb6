package http2

import "encoding/binary"

// grpcBody follows the messages of gRPC in a body: a client may have nothing to say between two of
// them, but not within one. Each begins with a byte of flags and its length.
type grpcBody struct {
	prefix [5]byte
	have   int    // of the prefix
	left   uint32 // of the message
}

// add takes what comes next of the body.
func (g *grpcBody) add(p []byte) {
	for len(p) > 0 {
		if g.left > 0 {
			n := min(uint64(g.left), uint64(len(p)))
			g.left -= uint32(n)
			p = p[n:]
			continue
		}
		n := copy(g.prefix[g.have:], p)
		p = p[n:]
		if g.have += n; g.have == len(g.prefix) {
			g.have, g.left = 0, binary.BigEndian.Uint32(g.prefix[1:])
		}
	}
}

// within reports whether a message has begun and not ended.
func (g *grpcBody) within() bool { return g.have > 0 || g.left > 0 }
