package interop

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
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// serverCertificate is what gateways show to clients over TLS; clients trust it as their only
// authority.
type serverCertificate struct {
	certFile, keyFile string
	authorities       *x509.CertPool
}

// clientTLS is for a client that speaks these protocols.
func (c *serverCertificate) clientTLS(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: c.authorities, NextProtos: protocols}
}

var certificates struct {
	once sync.Once
	dir  string
	made serverCertificate
	err  error
}

// certificate returns the certificate of this test run.
func certificate(t *testing.T) *serverCertificate {
	t.Helper()
	certificates.once.Do(func() { certificates.err = makeCertificate() })
	if certificates.err != nil {
		t.Fatal(certificates.err)
	}
	return &certificates.made
}

func makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sluice interop"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if certificates.dir, err = os.MkdirTemp("", "sluice-interop-"); err != nil {
		return err
	}
	c := &certificates.made
	c.certFile, c.keyFile = filepath.Join(certificates.dir, "cert.pem"), filepath.Join(certificates.dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c.authorities = x509.NewCertPool()
	c.authorities.AppendCertsFromPEM(certPEM)
	if err := os.WriteFile(c.certFile, certPEM, 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
