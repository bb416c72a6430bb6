package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for the tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("test authority", nil)
	a.write("ca.crt", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(name string, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"a.test", "shop.example", "*.shop.example"},
		IsCA: by == nil, BasicConstraintsValid: true,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(a.dir, name), b, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes name.crt and name.key and returns the pair.
func (a *authority) issue(file, name string) tls.Certificate {
	a.t.Helper()
	cert, key := a.sign(name, a)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(file+".key", "EC PRIVATE KEY", der)
	a.write(file+".crt", "CERTIFICATE", cert.Raw)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func TestTLSAndHTTP2(t *testing.T) {
	s := newService(t, echo)
	a := newAuthority(t)
	a.issue("server", "first")
	peer := a.issue("client", "client")
	text := strings.Replace(head, "listen: {", `listen: {https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+`/server.key, clientCA: `+a.dir+`/ca.crt}, `, 1) + `
services: {a: {endpoints: ["` + s.URL + `"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`
	g := start(t, text)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	get := func(certs ...tls.Certificate) (*http.Response, error) {
		c := &http.Client{Timeout: 10 * time.Second,
			Transport: &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true,
				TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}}
		resp, err := c.Get("https://" + g.at.HTTPS + "/x")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	resp, err := get(peer)
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 ||
		resp.TLS.PeerCertificates[0].Subject.CommonName != "first" {
		t.Fatalf("%+v, %v", resp, err)
	}
	if saw, _ := s.last(t); saw.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("the service saw %v", saw.Header)
	}
	if _, err := get(); err == nil {
		t.Error("a client without a certificate was let in")
	}
	a.issue("server", "second") // renewed on disk
	until(t, func() bool {
		resp, err := get(peer)
		return err == nil && resp.TLS.PeerCertificates[0].Subject.CommonName == "second"
	})

	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	clear := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Protocols: &p}}
	resp, err = clear.Get("http://" + g.at.HTTP + "/x?y=1")
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("cleartext HTTP/2: %+v, %v", resp, err)
	}
	resp.Body.Close()
}
