package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// material is everything that a configuration names by a path, read: key sets and certificates.
// Nothing behind it reads a file.
type material struct {
	policy.Material
	listener *tls.Config // of listen.https; nil without
	services map[string]serviceTLS
}

// serviceTLS is how the endpoints of a service are verified. digest changes with what was read.
type serviceTLS struct {
	config *tls.Config // nil: by the system's roots
	digest string
}

// readMaterial reads what a configuration names. The error has every fault, with the setting and
// the file.
func readMaterial(cfg *config.Config) (material, error) {
	m := material{services: map[string]serviceTLS{}}
	keySets, err := readKeySets(cfg)
	faults := []error{err}
	m.KeySets = keySets
	for name, s := range cfg.Services {
		if s.TLS == nil {
			continue
		}
		if m.services[name], err = readServiceTLS(s.TLS); err != nil {
			faults = append(faults, fmt.Errorf("gateway: services.%s.tls: %w", name, err))
		}
	}
	if h := cfg.Listen.HTTPS; h != nil {
		m.listener, err = readListenerTLS(h)
		faults = append(faults, err)
	}
	return m, errors.Join(faults...)
}

// readKeySets reads the key sets of identity.
func readKeySets(cfg *config.Config) (map[string]*identity.KeySet, error) {
	sets := map[string]*identity.KeySet{}
	var faults []error
	for _, source := range cfg.Identity {
		if source.JWT == nil {
			continue
		}
		keys, err := readKeySet(source.JWT.Keys)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		sets[source.JWT.Keys] = keys
	}
	return sets, errors.Join(faults...)
}

func readKeySet(path string) (*identity.KeySet, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: jwt.keys: %w", err)
	}
	return identity.ParseKeys(raw)
}

// readListenerTLS reads the certificates of the TLS listener. The error names the file or the
// setting.
func readListenerTLS(h *config.HTTPS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(h.Cert, h.Key)
	if err != nil {
		return nil, fmt.Errorf("gateway: listen.https: %w", err)
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
	}
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

// readServiceTLS reads how the endpoints of a service are verified and which certificate the
// gateway presents to them.
func readServiceTLS(s *config.ServiceTLS) (out serviceTLS, err error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	h := sha256.New()
	fmt.Fprintf(h, "%q", []string{s.CA, s.ServerName, s.Cert, s.Key})
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return out, err
		}
		h.Write(pem)
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return out, fmt.Errorf("ca: %s holds no certificate", s.CA)
		}
	}
	if s.Cert != "" {
		cert, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return out, err
		}
		for _, der := range cert.Certificate {
			h.Write(der)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return serviceTLS{c, hex.EncodeToString(h.Sum(nil))}, nil
}
