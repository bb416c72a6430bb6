package gateway

import (
	"crypto/tls"
	"crypto/x509"
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
