package message

// Owner says who may set a field of a request that a service sees.
type Owner uint8

// Owners of fields.
const (
	// AnyoneOwns: a field like any other.
	AnyoneOwns Owner = iota
	// ProxyOwns: it tells how the request came, and is believed from a trusted proxy only.
	ProxyOwns
	// GatewayOwns: the service sees no other value than the gateway's.
	GatewayOwns
)

// OwnerOf tells whose a field is by its name alone, whatever its length: a prefix reserves every
// name that begins so. Bytes that are no letter or digit are one and the same in it, since servers
// after CGI read all of them as underscores (RFC 3875 §4.1.18, and what grew out of it): Sluice_Op,
// sluice.op and X_Forwarded-For are what they look like. A name that differs from one of a proxy
// only so is nobody's to send: a proxy that sets X-Real-IP passes X_Real_IP on.
func OwnerOf(name string) Owner {
	if name == "" {
		return AnyoneOwns
	}
	switch name[0] | 0x20 { // decides for nearly every field, and is all that those cost
	case 's':
		if begins(name, "sluice-") {
			return GatewayOwns
		}
	case 'x':
		if begins(name, "x-forwarded-") || folded(name, "x-forwarded") {
			if isForwarding(name) {
				return GatewayOwns
			}
			return ofProxy(name)
		}
		if folded(name, "x-real-ip") {
			return ofProxy(name)
		}
	case 'f':
		if folded(name, "forwarded") {
			return ProxyOwns
		}
	case 't':
		if folded(name, "true-client-ip") {
			return ofProxy(name)
		}
		if folded(name, "traceparent") {
			return GatewayOwns
		}
	case 'v':
		if folded(name, "via") {
			return GatewayOwns
		}
	case 'i': // the key itself is the client's to send
		if folded(name, "idempotency-key") && !hyphened(name) {
			return GatewayOwns
		}
	}
	return AnyoneOwns
}

// isForwarding reports whether the gateway writes that field anew for every request, from what a
// trusted proxy said in it.
func isForwarding(name string) bool {
	return folded(name, "x-forwarded-for") || folded(name, "x-forwarded-proto") || folded(name, "x-forwarded-host")
}

// ofProxy is the owner of a name that is one of a proxy's: nobody's when it only looks like it.
func ofProxy(name string) Owner {
	if hyphened(name) {
		return ProxyOwns
	}
	return GatewayOwns
}

// begins reports whether a name begins with prefix, which is in lower case with hyphens.
func begins(name, prefix string) bool {
	return len(name) >= len(prefix) && folded(name[:len(prefix)], prefix)
}

// folded reports whether a name is want, which is in lower case with hyphens: case aside, and
// whatever stands for the hyphens.
func folded(name, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		if foldByte[name[i]] != want[i] {
			return false
		}
	}
	return true
}

// FoldedEqual reports whether two names are one to a server that reads every byte but letters and
// digits as an underscore.
func FoldedEqual(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldByte[a[i]] != foldByte[b[i]] {
			return false
		}
	}
	return true
}

// hyphened reports whether a name has nothing but letters, digits and hyphens.
func hyphened(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '-' && foldByte[c] == '-' {
			return false
		}
	}
	return true
}

// foldByte maps letters to lower case, digits to themselves and all else to the hyphen.
var foldByte = func() (t [256]byte) {
	for c := range t {
		t[c] = '-'
	}
	for c := byte('a'); c <= 'z'; c++ {
		t[c], t[c-0x20] = c, c
	}
	for c := byte('0'); c <= '9'; c++ {
		t[c] = c
	}
	return t
}()
