package message

import "testing"

func TestKindOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Kind{
		"te": TE, "HOST": Host, "proxy": HopByHopField, "Expect": Expect, "Trailer": Trailer, "upgrade": Upgrade,
		"Connection": Connection,
		"keep-alive": KeepAlive, "Keep_Alive": Folded, "Content-length": ContentLength,
		"content_length": Folded, "Http2-Settings": HopByHopField,
		"Proxy-connection": ConnectionSpecific, "Proxy_Connection": Folded, "transfer-ENCODING": TransferEncoding,
		"Transfer_Encoding": Folded, "Content.Length": Folded, "HTTP2_Settings": Folded, "transfer~encoding": Folded,
		"Contentxlength": Ordinary,
		"Accept":         Ordinary, "Trailers": Ordinary, "Content-Lengt": Ordinary, "": Ordinary, "Te ": Ordinary,
	} {
		if got := KindOf(name); got != want {
			t.Errorf("KindOf(%q) = %d, want %d", name, got, want)
		}
		if HopByHop(name) != (want != Ordinary) {
			t.Errorf("HopByHop(%q) = %v", name, HopByHop(name))
		}
	}
}

func TestNominates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		connection, name string
		want             bool
	}{
		{"close", "close", true}, {"a, B\t,c", "b", true}, {" ,, x", "X", true}, {"", "a", false}, {"ab", "a", false},
		{"a b", "a", false}, {"a;q=1", "a", false}, {"a", "ab", false},
	} {
		if Nominates(c.connection, c.name) != c.want {
			t.Errorf("Nominates(%q, %q) = %v", c.connection, c.name, !c.want)
		}
	}
}

func TestInTrailer(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Grpc-Status": true, "X-Checksum": true, "Digest": true, "Server-Timing": true,
		"content-length": false, "Transfer-Encoding": false, "Host": false, "AUTHORIZATION": false, "Set-Cookie": false,
		"Content-Type": false, "Sluice-Reason": false,
		"x-forwarded-for": false, "Idempotency-Key": false, "X_Under": false, "Trailer": false, "Connection": false,
		"Cache-Control": false, "Content.Type": false, "Idempotent-Replayed": false, "X-Real-IP": false,
		"Forwarded": false,
		"Origin":    false,
	} {
		if InTrailer(name) != want {
			t.Errorf("InTrailer(%q) = %v", name, !want)
		}
	}
}
