package message

import (
	"strings"
	"testing"
)

// spellings returns a name in several cases, and with other bytes for its hyphens.
func spellings(name string) (same, folded []string) {
	for _, s := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
		same = append(same, s)
		for _, sep := range []string{"_", ".", "~"} {
			if f := strings.ReplaceAll(s, "-", sep); f != s {
				folded = append(folded, f)
			}
		}
		if i := strings.IndexByte(s, '-'); i >= 0 {
			folded = append(folded, s[:i]+"_"+s[i+1:])
		}
	}
	return same, folded
}

// TestOwnerByPrefix holds the prefixes against every length that a rest may have.
func TestOwnerByPrefix(t *testing.T) {
	t.Parallel()
	for length := range 64 {
		rest := strings.Repeat("x", length)
		for prefix, want := range map[string]Owner{"Sluice-": GatewayOwns, "X-Forwarded-": ProxyOwns, "Other-": AnyoneOwns} {
			same, folded := spellings(prefix + rest)
			for _, name := range same {
				if got := OwnerOf(name); got != want {
					t.Errorf("%q is owned by %d, want %d", name, got, want)
				}
				if InTrailer(name) != (want == AnyoneOwns) {
					t.Errorf("%q in a trailer: %v", name, InTrailer(name))
				}
			}
			if want == ProxyOwns {
				want = GatewayOwns
			}
			for _, name := range folded {
				if got := OwnerOf(name); got != want {
					t.Errorf("%q is owned by %d, want %d", name, got, want)
				}
			}
		}
	}
}

func TestOwnerByName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ same, folded Owner }{
		"X-Forwarded-For": {GatewayOwns, GatewayOwns}, "X-Forwarded-Proto": {GatewayOwns, GatewayOwns},
		"X-Forwarded-Host": {GatewayOwns, GatewayOwns}, "X-Forwarded-User": {ProxyOwns, GatewayOwns},
		"X-Forwarded": {ProxyOwns, GatewayOwns}, "X-Real-IP": {ProxyOwns, GatewayOwns},
		"True-Client-IP": {ProxyOwns, GatewayOwns}, "Forwarded": {ProxyOwns, ProxyOwns},
		"Via": {GatewayOwns, GatewayOwns}, "Traceparent": {GatewayOwns, GatewayOwns},
		"Idempotency-Key": {AnyoneOwns, GatewayOwns},
		"Sluice":          {}, "Sluices-Op": {}, "X-Forwarder": {}, "X-Forwardedfor": {}, "X-Real-IPs": {}, "Vias": {},
		"Vi":          {},
		"True-Client": {}, "Tracestate": {}, "Accept": {}, "User-Agent": {}, "X-User": {}, "Idempotency-Keys": {}, "": {},
	} {
		same, folded := spellings(name)
		for _, n := range same {
			if got := OwnerOf(n); got != want.same {
				t.Errorf("%q is owned by %d, want %d", n, got, want.same)
			}
		}
		for _, n := range folded {
			if got := OwnerOf(n); got != want.folded {
				t.Errorf("%q is owned by %d, want %d", n, got, want.folded)
			}
		}
	}
}

func TestFoldedEqual(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"X-User", "x_user", true}, {"X-User", "X.User", true}, {"X-User", "X-User", true}, {"X-User", "XxUser", false},
		{"X-User", "X-Users", false}, {"", "", true}, {"X1", "X-", false},
	} {
		if FoldedEqual(c.a, c.b) != c.want {
			t.Errorf("FoldedEqual(%q, %q) = %v", c.a, c.b, !c.want)
		}
	}
}

func TestAllocOwner(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { OwnerOf("x-forwarded-for"); OwnerOf("accept") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
