package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/sluice-gateway/sluice/control/config"
)

// tlsFor reads the certificates of the TLS listener. The error names the file or the setting.
func tlsFor(h *config.HTTPS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(h.Cert, h.Key)
	if err != nil {
		return nil, fmt.Errorf("gateway: listen.https: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if h.ClientCA != "" {
		pem, err := os.ReadFile(h.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("gateway: listen.https.clientCA: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("gateway: listen.https.clientCA: %s holds no certificate", h.ClientCA)
		}
	}
	return c, nil
}

// tlsTo reads how the endpoints of a service are verified and what the gateway shows them. digest changes with what was read.
func tlsTo(s *config.ServiceTLS) (c *tls.Config, digest string, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	h := sha256.New()
	fmt.Fprintf(h, "%+v", *s)
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, "", err
		}
		h.Write(pem)
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("ca: %s holds no certificate", s.CA)
		}
	}
	if s.Cert != "" {
		cert, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, "", err
		}
		for _, der := range cert.Certificate {
			h.Write(der)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, hex.EncodeToString(h.Sum(nil)), nil
}
