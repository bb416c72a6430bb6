package message

import "errors"

// Malformed is a message that breaks a rule of its protocol.
type Malformed struct{ Rule string }

func (e *Malformed) Error() string { return "the response is malformed: " + e.Rule }

// Malformation returns what is wrong, in words that a client may see.
func (e *Malformed) Malformation() string { return e.Rule }

// Malformation returns what is malformed in a service's response, "" where err is of another kind. The text has
// nothing of the response itself.
func Malformation(err error) string {
	var m interface{ Malformation() string }
	if errors.As(err, &m) {
		return m.Malformation()
	}
	return ""
}

// Protocol is one that a service may speak where another one was expected.
type Protocol string

// What services speak by mistake, or are taken for by a mistake of the configuration.
const (
	SpeaksTLS   Protocol = "TLS"
	SpeaksHTTP1 Protocol = "HTTP/1.1"
	SpeaksHTTP2 Protocol = "HTTP/2"
)

// OtherProtocol is what a service sent in another protocol than it was spoken to in.
type OtherProtocol struct{ Speaks Protocol }

func (e *OtherProtocol) Error() string { return "the service speaks " + string(e.Speaks) }

// Spoken looks at the first bytes that came from a service that does not speak the expected protocol, and returns the
// one that it speaks, or nil.
func Spoken(first []byte) *OtherProtocol {
	const (
		alert, handshake = 0x15, 0x16 // content types of TLS records (RFC 8446 §5.1)
		settings         = 4          // a type of frame (RFC 9113 §6.5)
		frameHeader      = 9
	)
	switch {
	case len(first) >= 3 && (first[0] == alert || first[0] == handshake) && first[1] == 3 && first[2] <= 4:
		return &OtherProtocol{SpeaksTLS}
	case len(first) >= 5 && string(first[:5]) == "HTTP/":
		return &OtherProtocol{SpeaksHTTP1}
	case len(first) >= frameHeader && first[0] == 0 && first[1] == 0 && first[2]%6 == 0 && first[3] == settings &&
		first[5]|first[6]|first[7]|first[8] == 0: // of the connection
		return &OtherProtocol{SpeaksHTTP2}
	}
	return nil
}
