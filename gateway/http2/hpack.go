package http2

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Heads are written without state: what is in the static table by its index, the rest as literals
// that the peer does not index (RFC 7541 §6.2.2). A dynamic table would have to keep copies of
// strings that live no longer than their exchange, and to be searched for every field; half of a
// gateway's fields differ from request to request anyway.

// Indexed fields (RFC 7541, appendix A).
const (
	methodGET   = 0x80 | 2
	methodPOST  = 0x80 | 3
	pathRoot    = 0x80 | 4
	schemeHTTP  = 0x80 | 6
	schemeHTTPS = 0x80 | 7
)

// Names with an index.
const (
	nameAuthority     = 1
	nameMethod        = 2
	namePath          = 4
	nameStatus        = 8
	nameContentLength = 28
	nameDate          = 33
)

// staticNames are the names of the static table and the index of the first entry of each.
var staticNames = map[string]uint8{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19,
	"access-control-allow-origin": 20, "age": 21, "allow": 22, "authorization": 23, "cache-control": 24,
	"content-disposition": 25, "content-encoding": 26, "content-language": 27, "content-length": 28,
	"content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32, "date": 33, "etag": 34,
	"expect": 35, "expires": 36, "from": 37, "host": 38, "if-match": 39, "if-modified-since": 40,
	"if-none-match": 41, "if-range": 42, "if-unmodified-since": 43, "last-modified": 44, "link": 45,
	"location": 46, "max-forwards": 47, "proxy-authenticate": 48, "proxy-authorization": 49, "range": 50,
	"referer": 51, "refresh": 52, "retry-after": 53, "server": 54, "set-cookie": 55,
	"strict-transport-security": 56, "transfer-encoding": 57, "user-agent": 58, "vary": 59, "via": 60,
	"www-authenticate": 61,
}

// appendInt appends an integer behind the bits that are set in first (RFC 7541 §5.1).
func appendInt(dst []byte, first byte, bits uint, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// tableSize is the size of the peer's dynamic table, as its decoder was told (RFC 7541 §4.2, §6.3).
// Heads never use the table, but a decoder whose owner allows less than it has insists on being
// told.
type tableSize struct {
	told  int // by the last update; at first what both sides begin with
	least int // that the peer has allowed since
	last  int // that it has allowed
}

func newTableSize() tableSize { return tableSize{tableSizeFirst, tableSizeFirst, tableSizeFirst} }

// allow takes SETTINGS_HEADER_TABLE_SIZE. A larger table than the first one is not used.
func (t *tableSize) allow(n uint32) {
	t.last = int(min(n, tableSizeFirst))
	t.least = min(t.least, t.last)
}

// appendUpdates begins a head with what the peer has to be told: the smallest size since the last
// head, where it has grown again since, and the last one.
func (t *tableSize) appendUpdates(dst []byte) []byte {
	if t.least == t.told && t.last == t.told {
		return dst
	}
	if t.least < t.last && t.least < t.told {
		dst = appendInt(dst, sizeUpdate, 5, t.least)
	}
	dst = appendInt(dst, sizeUpdate, 5, t.last)
	t.told, t.least = t.last, t.last
	return dst
}

const (
	sizeUpdate     = 0x20
	tableSizeFirst = 4 << 10 // RFC 9113 §6.5.2
)

func appendText(dst []byte, s string) []byte { return append(appendInt(dst, 0, 7, len(s)), s...) }

// appendIndexedName appends a field whose name is in the static table.
func appendIndexedName(dst []byte, name uint8, value string) []byte {
	return appendText(appendInt(dst, 0, 4, int(name)), value)
}

// neverIndexed is set on fields that no compression on the way may keep (RFC 7541 §7.1.3).
const neverIndexed = 0x10

// appendField appends a field, its name in lower case.
func appendField(dst []byte, name, value string) []byte {
	from := len(dst)
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	index, static := staticNames[string(dst[from:])]
	if static {
		var first byte
		switch index {
		case 23, 32, 49, 55: // credentials and cookies
			first = neverIndexed
		}
		return appendText(appendInt(dst[:from], first, 4, int(index)), value)
	}
	if len(name) >= 0x7f { // the length takes more than one byte
		lower := string(dst[from:])
		return appendText(appendText(append(dst[:from], 0), lower), value)
	}
	dst = append(dst, 0, 0)
	copy(dst[from+2:], dst[from:from+len(name)])
	dst[from], dst[from+1] = 0, byte(len(name))
	return appendText(dst, value)
}

// appendStatus appends the status of a response.
func appendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x80|nameStatus)
	case 204:
		return append(dst, 0x80|(nameStatus+1))
	}
	dst = appendInt(dst, 0, 4, nameStatus)
	return append(dst, 3, '0'+byte(status/100%10), '0'+byte(status/10%10), '0'+byte(status%10))
}

// appendNumber appends a number as a value.
func appendNumber(dst []byte, n int64) []byte {
	at := len(dst)
	dst = append(dst, 0)
	if n == 0 {
		dst = append(dst, '0')
	}
	var b [20]byte
	i := len(b)
	for ; n > 0; n /= 10 {
		i--
		b[i] = '0' + byte(n%10)
	}
	dst = append(dst, b[i:]...)
	dst[at] = byte(len(dst) - at - 1)
	return dst
}

// appendFields appends what may leave: no field of a connection, and nothing that would end a line
// early for a gateway that turns it into HTTP/1.1.
func appendFields(dst []byte, h filters.Header) []byte {
	for i := range h {
		f := &h[i]
		if strings.IndexByte(f.Value, '\n') >= 0 || strings.IndexByte(f.Value, '\r') >= 0 ||
			strings.IndexByte(f.Value, 0) >= 0 || message.HopByHop(f.Name) {
			continue
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	return dst
}

// sound reports whether a field is well-formed (RFC 9113 §8.2): its name a token without capital
// letters, its value without control bytes and without space at its ends, and none that is of the
// connection.
func sound(f *filters.Field, kind message.Kind) bool {
	return lowerCase(f.Name) && soundValue(f.Value) && !kind.MalformedInHTTP2(f.Value)
}

func lowerCase(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return message.Token(name)
}

func soundValue(value string) bool {
	if n := len(value); n > 0 && (blank(value[0]) || blank(value[n-1])) {
		return false
	}
	return message.FieldValue(value)
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
