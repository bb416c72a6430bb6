package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
)

// MaxLength is how many bytes a header may have behind its fixed part.
const MaxLength = 4 << 10

// Why a header is refused.
var (
	// ErrShort: what there is may become a header, and its end has not come.
	ErrShort = errors.New("proxyproto: the header is not complete")
	// ErrNoHeader: the bytes do not begin as a header does.
	ErrNoHeader = errors.New("proxyproto: there is no PROXY protocol header")
	// ErrVersion1: the header is of version 1, the text form.
	ErrVersion1 = errors.New("proxyproto: the header is of version 1, only version 2 is taken")
	// ErrMalformed: the header breaks the protocol, or uses what a stream listener does not take.
	// What it is stands beside it.
	ErrMalformed = errors.New("proxyproto: malformed header")
	// ErrTooLong: the header is longer than MaxLength allows.
	ErrTooLong = errors.New("proxyproto: the header is too long")
	// ErrChecksum: the header is not what its sender sent.
	ErrChecksum = errors.New("proxyproto: the header's CRC32C is wrong")
)

// Header is what a header says. Source and Destination are the zero value where it names none: then
// the connection's own hold.
type Header struct {
	Local       bool // the load balancer's own connection, such as a health check
	Source      netip.AddrPort
	Destination netip.AddrPort
}

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	version1  = "PROXY "
	fixed     = 16 // signature, version and command, family and transport, length

	typeCRC32C = 0x03 // PP2_TYPE_CRC32C
	fieldHead  = 3    // a field's type and length
)

// Commands, in the low half of the byte behind the signature; the high half is the version.
const (
	commandLocal = 0x20
	commandProxy = 0x21
)

// Family and transport, one byte.
const (
	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	noSum      = make([]byte, crc32.Size) // zeros; on the stack they would be allocated
)

// Parse reads the header at the beginning of b and returns how many bytes it has. The error is
// ErrShort when more bytes may make b a header, and else wraps one of the other errors of the
// package, except for those of reading; then nothing is consumed. It keeps nothing of b.
func Parse(b []byte) (Header, int, error) {
	n, err := size(b)
	if err != nil {
		return Header{}, 0, err
	}
	if len(b) < n {
		return Header{}, 0, ErrShort
	}
	h, err := parse(b[:n])
	if err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// ReadHeader reads the header from a connection, and no byte beyond it. The error is io.EOF when
// the connection ended before its first byte, wraps io.ErrUnexpectedEOF when it ended within the
// header, or what reading returned, or is as that of [Parse].
func ReadHeader(r io.Reader) (Header, error) {
	b := make([]byte, 0, 256) // enough for the addresses of any family
	n := fixed
	for len(b) < n {
		got, err := r.Read(b[len(b):n])
		b = b[:len(b)+got]
		whole, fault := size(b)
		switch {
		case fault == nil: // the length is known; it does not change any more
			n = whole
			b = slices.Grow(b, n-len(b))
		case !errors.Is(fault, ErrShort):
			return Header{}, fault
		}
		if err != nil && len(b) < n {
			return Header{}, readError(err, len(b))
		}
	}
	return parse(b)
}

func readError(err error, got int) error {
	if errors.Is(err, io.EOF) {
		if got == 0 {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("proxyproto: after %d bytes of the header: %w", got, err)
}

// size returns the length of the whole header that b begins with. It checks as many of the fixed
// bytes as there are, so that a peer that speaks something else is not waited for.
func size(b []byte) (int, error) {
	if begins(b, version1) && len(b) >= len(version1) {
		return 0, ErrVersion1
	}
	if !begins(b, signature) && !begins(b, version1) {
		return 0, ErrNoHeader
	}
	if len(b) > 12 && b[12] != commandLocal && b[12] != commandProxy {
		return 0, fmt.Errorf("%w: version and command are %#x", ErrMalformed, b[12])
	}
	if len(b) > 13 && b[12] == commandProxy && addressBytes(b[13]) < 0 {
		return 0, fmt.Errorf("%w: family and transport are %#x", ErrMalformed, b[13])
	}
	if len(b) < fixed {
		return 0, ErrShort
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	if length > MaxLength {
		return 0, fmt.Errorf("%w: %d bytes follow the fixed ones, at most %d may", ErrTooLong, length, MaxLength)
	}
	if least := addressBytes(b[13]); b[12] == commandProxy && length < least {
		return 0, fmt.Errorf("%w: %d bytes for addresses that have %d", ErrMalformed, length, least)
	}
	return fixed + length, nil
}

// begins reports whether b begins with the text, as far as b goes.
func begins(b []byte, text string) bool {
	n := min(len(b), len(text))
	return string(b[:n]) == text[:n]
}

// addressBytes returns how long both addresses with their ports are; -1 for what is not taken.
func addressBytes(family byte) int {
	switch family {
	case unspecified:
		return 0
	case tcp4:
		return 2 * (4 + 2)
	case tcp6:
		return 2 * (16 + 2)
	case unixStream:
		return 2 * 108
	}
	return -1
}

// parse reads a whole header whose fixed bytes are sound.
func parse(b []byte) (Header, error) {
	h := Header{Local: b[12] == commandLocal}
	family := b[13]
	fields := fixed + max(addressBytes(family), 0)
	at, err := checksumAt(b, fields)
	if skipped := h.Local || family == unspecified; err != nil && !skipped { // what is skipped need not be fields
		return Header{}, err
	}
	if at > 0 && binary.BigEndian.Uint32(b[at:]) != checksum(b, at) {
		return Header{}, ErrChecksum
	}
	if !h.Local && (family == tcp4 || family == tcp6) {
		h.Source, h.Destination = addresses(b[fixed:fields])
	}
	return h, nil
}

// addresses reads source and destination, then both ports.
func addresses(b []byte) (source, destination netip.AddrPort) {
	size := len(b)/2 - 2
	at := func(i int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[i*size : (i+1)*size])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[2*size+2*i:]))
	}
	return at(0), at(1)
}

// checksumAt walks the fields from an offset and returns where the value of the checksum stands; 0
// when there is none.
func checksumAt(b []byte, from int) (int, error) {
	found := 0
	for i := from; i < len(b); {
		if len(b)-i < fieldHead {
			return 0, fmt.Errorf("%w: a field is cut off", ErrMalformed)
		}
		length := int(binary.BigEndian.Uint16(b[i+1:]))
		value := i + fieldHead
		if length > len(b)-value {
			return 0, fmt.Errorf("%w: a field of %d bytes has %d", ErrMalformed, length, len(b)-value)
		}
		if b[i] == typeCRC32C {
			if length != crc32.Size || found > 0 {
				return 0, fmt.Errorf("%w: a CRC32C is one field of 4 bytes", ErrMalformed)
			}
			found = value
		}
		i = value + length
	}
	return found, nil
}

// checksum is the CRC32C of the header with its own value taken as zeros.
func checksum(b []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, noSum)
	return crc32.Update(sum, castagnoli, b[at+crc32.Size:])
}
