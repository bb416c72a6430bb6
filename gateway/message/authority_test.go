package message

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
)

// configOf returns the configuration of a server with a certificate for those names.
func configOf(t testing.TB, clients tls.ClientAuthType, subject string, names []string, ips ...net.IP) *tls.Config {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject},
		DNSNames: names, IPAddresses: ips}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{ClientAuth: clients, Certificates: []tls.Certificate{{Certificate: [][]byte{der}}}}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	names := []string{"shop.example", "*.shop.example"}
	ips := []net.IP{net.IPv4(192, 0, 2, 7), net.ParseIP("2001:db8::7")}
	for _, c := range []struct {
		name     string
		clients  tls.ClientAuthType
		sni      string
		yes, not []string
	}{
		{"by the certificate", tls.NoClientCert, "a.shop.example",
			[]string{"", "shop.example", "SHOP.example", "shop.example.", "shop.example:8443", "Shop.Example.:1",
				"a.shop.example",
				"b.shop.example:443", "192.0.2.7", "192.0.2.7:443", "[2001:db8::7]", "[2001:DB8:0::7]:443"},
			[]string{"example", "a.b.shop.example", "shop.example.evil", "evil", "192.0.2.8", "[2001:db8::8]",
				"[::1]:443",
				"xshop.example", ".shop.example", "*.shop.example.evil", "192.0.2.7.", "127.1"}},
		{"with certificates of clients", tls.RequireAndVerifyClientCert, "A.shop.example",
			[]string{"", "a.shop.example", "A.SHOP.example:443", "a.shop.example."},
			[]string{"b.shop.example", "shop.example", "192.0.2.7", "evil"}},
		{"with certificates of clients, and no name", tls.RequireAndVerifyClientCert, "",
			[]string{"192.0.2.7", "shop.example"}, []string{"192.0.2.8", "evil"}},
	} {
		a := NewAuthority(configOf(t, c.clients, "x", names, ips...), tls.ConnectionState{ServerName: c.sni})
		for range 2 { // the second time from what is kept
			for _, host := range c.yes {
				if !a.Covers(host) {
					t.Errorf("%s: %q is not covered", c.name, host)
				}
			}
			for _, host := range c.not {
				if a.Covers(host) {
					t.Errorf("%s: %q is covered", c.name, host)
				}
			}
		}
	}
	old := NewAuthority(configOf(t, tls.NoClientCert, "shop.example", nil), tls.ConnectionState{})
	if !old.Covers("Shop.example:443") || old.Covers("evil") {
		t.Error("a certificate without alternative names")
	}
	if clear := (*Authority)(nil); !clear.Covers("evil") {
		t.Error("a cleartext connection has no certificate")
	}
}

func TestAuthorityOfManyStreams(t *testing.T) {
	t.Parallel()
	a := NewAuthority(configOf(t, tls.NoClientCert, "x", []string{"*.shop.example"}), tls.ConnectionState{})
	var all sync.WaitGroup
	for _, host := range []string{"a.shop.example", "b.shop.example", "evil"} {
		all.Go(func() {
			for range 1000 {
				if a.Covers(host) != (host != "evil") {
					t.Errorf("%s", host)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestAllocAuthority(t *testing.T) {
	a := NewAuthority(configOf(t, tls.NoClientCert, "x", []string{"shop.example"}), tls.ConnectionState{})
	host := strings.Clone("shop.example:443")
	if n := testing.AllocsPerRun(100, func() { a.Covers(host) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
