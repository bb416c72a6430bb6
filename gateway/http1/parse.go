package http1

import (
	"bytes"
	"errors"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Fault is why a message is refused: a status for the peer and a sentence to act on.
type Fault struct {
	Status int // 400, 414, 417, 431, 501, 503 or 505
	Detail string
}

func (f *Fault) Error() string { return "http1: " + f.Detail }

// Malformation implements what [message.Malformation] looks for.
func (f *Fault) Malformation() string { return f.Detail }

func bad(detail string) *Fault { return &Fault{400, detail} }

// The faults of a head, made once: a bad request shall not cost more than a good one.
var (
	faultLine          = bad("the request line is not a method, a target and a version with one space between them")
	faultTarget        = bad("the request target has a byte that it cannot have")
	faultForm          = bad("the request target does not begin with a slash")
	faultVersion       = bad("the version is not HTTP/1.0 or HTTP/1.1")
	faultOtherProtocol = bad("the version does not begin with HTTP/")
	faultVersionNew    = &Fault{505, "this version of HTTP is not spoken here"}
	faultMethod        = &Fault{501, "this is a gateway: it opens no tunnels and does not trace"}
	faultBareLF        = bad("a line ends without a carriage return")
	faultName          = bad("a field's name is not a token followed by a colon")
	faultFold          = bad("a field goes on over the end of its line")
	faultValue         = bad("a field's value has a control byte")
	faultHost          = bad("the host is missing or is not one")
	faultHosts         = bad("there are several hosts")
	faultLength        = bad("the Content-Length is not one number")
	faultLengths       = bad("there are several Content-Length fields")
	faultBoth          = bad("there are both a Content-Length and a Transfer-Encoding")
	faultCoding        = &Fault{501, "the transfer coding is not chunked alone"}
	faultCodings       = bad("there are several Transfer-Encoding fields")
	faultCodingOld     = bad("HTTP/1.0 has no transfer codings")
	faultExpect        = &Fault{417, "the expectation is not 100-continue"}
	faultURI           = &Fault{414, "the request target is too long"}
	faultLong          = &Fault{431, "the header is too long"}
	faultMany          = &Fault{431, "the header has too many fields"}
	faultOverloaded    = &Fault{503, "there is no room for so long a header beside what others have waiting in memory"}
	faultStatus        = bad("the status line is not a version, a status of 100 to 999 and a reason")
)

// errMore: the head is not whole yet.
var errMore = errors.New("http1: more is needed")

// head is what a head says of its own message and connection; the fields that are for the other
// side are in the header.
type head struct {
	minor     byte  // of the version, 0 or 1
	length    int64 // of the body; chunked, untilClose, or 0 without one
	lengthSet bool  // there was a Content-Length
	close     bool
	keepAlive bool
	upgrades  bool   // Connection names Upgrade
	upgrade   string // the protocol, or protocols, of Upgrade
	expects   bool   // 100-continue
	trailer   string // the Trailer field
	persists  string // the Keep-Alive field

	hosts, codings, cookies int
	connection              string // of Connection: what it names beside the options above, "" when nothing
}

// Lengths of a body that are not numbers of bytes.
const (
	chunked    = -1
	untilClose = -2
)

// parseRequest parses a request head at the beginning of b into x and h and returns its length.
// Strings of x lie in b. The error is errMore or a [Fault].
func parseRequest(b []byte, x *filters.Exchange, h *head) (int, error) {
	*h = head{}
	n, err := requestLine(b, x, h)
	if err != nil {
		return 0, err
	}
	x.Header = x.Header[:0]
	authority := x.Host
	x.Host = ""
	end, err := fields(b, n, &x.Header, h, x, "")
	if err != nil {
		return 0, err
	}
	if h.cookies > 1 {
		message.JoinCookies(&x.Header)
	}
	if err := h.requestFraming(); err != nil {
		return 0, err
	}
	switch {
	case h.hosts > 1:
		return 0, faultHosts
	case h.minor > 0 && h.hosts == 0, h.minor > 0 && x.Host == "" && authority == "", !message.ValidHost(x.Host):
		return 0, faultHost
	case authority != "" && h.hosts > 0 && !strings.EqualFold(authority, x.Host):
		return 0, faultHosts // RFC 9112 §3.2.2 has the target win; of two different ones neither is trusted
	case authority != "":
		x.Host = authority
	}
	return end, nil
}

// requestLine parses to the end of the request line; x.Host gets the authority of a target in
// absolute form.
func requestLine(b []byte, x *filters.Exchange, h *head) (int, error) {
	i := 0
	for i < len(b) && message.TokenByte(b[i]) {
		i++
	}
	if i == len(b) {
		return 0, errMore
	}
	if b[i] != ' ' || i == 0 {
		return 0, faultLine
	}
	x.Method = text(b[:i])
	i++
	from := i
	for i < len(b) && message.TargetByte(b[i]) {
		i++
	}
	if i == len(b) {
		return 0, errMore
	}
	if b[i] != ' ' {
		if b[i] == '\r' || b[i] == '\n' { // as HTTP/0.9 had it
			return 0, faultLine
		}
		return 0, faultTarget
	}
	target := text(b[from:i])
	i++
	const version = "HTTP/1.1\r\n"
	rest := b[i:]
	if len(rest) < len(version) {
		if bytes.IndexByte(rest, '\n') >= 0 || !strings.HasPrefix("HTTP/", text(rest[:min(len(rest), 5)])) {
			return 0, noVersion(b, target)
		}
		return 0, errMore
	}
	if text(rest[:5]) != version[:5] || rest[6] != '.' ||
		rest[5] < '0' || rest[5] > '9' || rest[7] < '0' || rest[7] > '9' {
		return 0, noVersion(b, target)
	}
	if rest[8] != '\r' || rest[9] != '\n' {
		if rest[8] == '\n' {
			return 0, faultBareLF
		}
		return 0, faultVersion
	}
	if rest[5] != '1' {
		return 0, faultVersionNew
	}
	x.Version = "1.1" // and what comes after it is spoken to as 1.1 (RFC 9110 §2.5)
	h.minor = 1
	if rest[7] == '0' {
		x.Version, h.minor = "1.0", 0
	}
	return i + len(version), splitTarget(target, x)
}

// noVersion tells a request line at fault from the beginning of another protocol, which has no word
// of HTTP in it, and no path.
func noVersion(b []byte, target string) error {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		end = len(b)
	}
	if strings.HasPrefix(target, "/") || bytes.Contains(bytes.ToUpper(b[:end]), []byte("HTTP/")) {
		return faultVersion
	}
	return faultOtherProtocol
}

// splitTarget takes a target apart: origin form, or absolute form with its authority (RFC 9112
// §3.2).
func splitTarget(target string, x *filters.Exchange) error {
	x.Host = ""
	switch {
	case x.Method == "CONNECT" || x.Method == "TRACE":
		return faultMethod
	case target == "":
		return faultLine
	case target[0] != '/':
		rest, ok := cutScheme(target)
		if !ok {
			return faultForm
		}
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if x.Host = rest[:end]; !message.ValidHost(x.Host) || x.Host == "" {
			return faultHost
		}
		target = rest[end:]
		if target == "" || target[0] == '?' {
			x.Path = "/"
			x.RawQuery = strings.TrimPrefix(target, "?")
			if strings.IndexByte(target, '#') >= 0 {
				return faultTarget
			}
			return nil
		}
	}
	if strings.IndexByte(target, '#') >= 0 {
		return faultTarget
	}
	x.Path, x.RawQuery, _ = strings.Cut(target, "?")
	return nil
}

func cutScheme(target string) (string, bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) > len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return "", false
}

// fields parses field lines from b[i:] to the empty line behind them and returns where that ends.
// What the engine reads itself goes to h (nil: a trailer section, without what the head's
// Connection nominated) and, with x, the host to it; all else to header. Strings lie in b.
func fields(b []byte, i int, header *filters.Header, h *head, x *filters.Exchange, nominated string) (int, error) {
	list := *header
	defer func() { *header = list }()
	for count := 0; ; count++ {
		if i+1 >= len(b) {
			if i < len(b) && b[i] == '\n' {
				return 0, faultBareLF
			}
			return 0, errMore
		}
		if b[i] == '\r' {
			if b[i+1] != '\n' {
				return 0, faultName
			}
			break
		}
		if count == message.FieldsMax {
			return 0, faultMany
		}
		from := i
		for i < len(b) && message.TokenByte(b[i]) {
			i++
		}
		if i == len(b) {
			return 0, errMore
		}
		if b[i] != ':' || i == from {
			return 0, badName(b[i], i == from)
		}
		name := text(b[from:i])
		i++
		for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
			i++
		}
		from = i
		for i < len(b) && message.ValueByte(b[i]) {
			i++
		}
		if i+1 >= len(b) {
			if i < len(b) && b[i] != '\r' {
				return 0, badValue(b[i])
			}
			return 0, errMore
		}
		if b[i] != '\r' || b[i+1] != '\n' {
			return 0, badValue(b[i])
		}
		to := i
		for to > from && (b[to-1] == ' ' || b[to-1] == '\t') {
			to--
		}
		i += 2
		value := text(b[from:to])
		if h == nil {
			if message.InTrailer(name) && !message.Nominates(nominated, name) {
				list = append(list, filters.Field{Name: name, Value: value})
			}
			continue
		}
		kind := message.KindOf(name)
		if kind == message.Ordinary {
			if message.IsCookie(name) {
				h.cookies++
			}
			list = append(list, filters.Field{Name: name, Value: value})
			continue
		}
		if err := h.read(kind, value, x); err != nil {
			return 0, err
		}
	}
	if h != nil && h.connection != "" {
		list = withoutNominated(list, h.connection)
	}
	return i + 2, nil
}

// badName is the fault of a line on which c stands where the colon behind a name is due.
func badName(c byte, first bool) error {
	switch {
	case c == '\n':
		return faultBareLF
	case first && (c == ' ' || c == '\t'):
		return faultFold
	}
	return faultName
}

func badValue(c byte) error {
	if c == '\n' {
		return faultBareLF
	}
	return faultValue
}

// withoutNominated takes out what the sender's Connection field names as its own (RFC 9110 §7.6.1).
func withoutNominated(list filters.Header, connection string) filters.Header {
	list.DelFunc(func(name string) bool { return message.Nominates(connection, name) })
	return list
}

// read takes one of the fields that concern this connection or the message's framing.
func (h *head) read(kind message.Kind, value string, x *filters.Exchange) error {
	switch kind {
	case message.Host:
		if h.hosts++; x != nil {
			x.Host = value
		}
	case message.ContentLength:
		if h.lengthSet {
			return faultLengths
		}
		n, ok := message.ParseLength(value)
		if !ok {
			return faultLength
		}
		h.lengthSet, h.length = true, n
	case message.TransferEncoding:
		if h.codings++; h.codings > 1 {
			return faultCodings
		}
		if !filters.EqualName(value, "chunked") {
			return faultCoding
		}
	case message.Connection:
		h.readConnection(value)
	case message.KeepAlive:
		h.persists = value
	case message.Upgrade:
		if h.upgrade != "" {
			value = h.upgrade + ", " + value
		}
		h.upgrade = value
	case message.Expect:
		if x == nil { // a response has no expectation
			return nil
		}
		if !filters.EqualName(value, "100-continue") {
			return faultExpect
		}
		h.expects = h.minor > 0 // RFC 9110 §10.1.1
	case message.Trailer:
		h.trailer = value
	}
	return nil
}

func (h *head) readConnection(value string) {
	others := false
	for rest := value; rest != ""; {
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		switch option = strings.Trim(option, " \t"); {
		case filters.EqualName(option, "close"):
			h.close = true
		case filters.EqualName(option, "keep-alive"):
			h.keepAlive = true
		case filters.EqualName(option, "upgrade"):
			h.upgrades = true
		case option != "":
			others = true
		}
	}
	switch {
	case !others:
	case h.connection == "":
		h.connection = value
	default:
		h.connection += "," + value
	}
}

// requestFraming decides how long a request's body is (RFC 9112 §6.3).
func (h *head) requestFraming() error {
	if h.codings == 0 {
		return nil
	}
	switch {
	case h.lengthSet:
		return faultBoth
	case h.minor == 0:
		return faultCodingOld
	}
	h.length = chunked
	return nil
}

// parseResponse parses a response head at the beginning of b and returns its length and the status.
// Strings of header lie in b.
func parseResponse(b []byte, method string, header *filters.Header, h *head) (n, status int, err error) {
	*h = head{}
	if n, status, err = statusLine(b, h); err != nil {
		return 0, 0, err
	}
	*header = (*header)[:0]
	if n, err = fields(b, n, header, h, nil, ""); err != nil {
		return 0, 0, err
	}
	switch {
	case h.codings > 0 && h.lengthSet:
		return 0, 0, faultBoth
	case h.codings > 0 && h.minor == 0:
		return 0, 0, faultCodingOld
	case message.HasNoBody(method, status):
		// A Content-Length is that which the response to a GET would have (RFC 9110 §8.6).
	case h.codings > 0:
		h.length = chunked
	case !h.lengthSet:
		h.length = untilClose
	}
	return n, status, nil
}

// statusLine parses "HTTP/1.1 200 OK"; the reason may be missing, with its space or without (many
// servers leave both out).
func statusLine(b []byte, h *head) (n, status int, err error) {
	const begin = "HTTP/1.1 200"
	if len(b) < len(begin)+2 {
		if !strings.HasPrefix(begin, text(b[:min(len(b), 7)])) || bytes.IndexByte(b, '\n') >= 0 {
			return 0, 0, faultStatus
		}
		return 0, 0, errMore
	}
	if text(b[:7]) != begin[:7] || b[8] != ' ' || b[7] != '0' && b[7] != '1' {
		return 0, 0, faultStatus
	}
	h.minor = b[7] - '0'
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return 0, 0, faultStatus
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return 0, 0, faultStatus
	}
	i := 12
	if b[i] == ' ' {
		i++
		for i < len(b) && message.ValueByte(b[i]) {
			i++
		}
	}
	if i+1 >= len(b) {
		if i < len(b) && b[i] != '\r' {
			return 0, 0, faultStatus
		}
		return 0, 0, errMore
	}
	if b[i] != '\r' || b[i+1] != '\n' {
		return 0, 0, faultStatus
	}
	return i + 2, status, nil
}
