package gateway

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// material is everything that a configuration names by a path, read: key sets and certificates.
// Nothing behind it reads a file.
type material struct {
	policy.Material
	listener *tls.Config // of listen.https, or of envoy.listen where that is served; nil without
	services map[string]serviceTLS
	warnings []config.Warning // of certificates that nobody accepts any more
	// certificates are those that were read, by their settings.
	certificates []certificate
}

// certificate is when the certificates in a file end.
type certificate struct {
	setting string
	ends    time.Time // of a chain: the first to end; of authorities: the last
}

// serviceTLS is how the endpoints of a service are verified. digest changes with what was read.
type serviceTLS struct {
	config *tls.Config // nil: by the system's roots
	digest string
}

// readMaterial reads what a configuration names. The error is a [*config.FaultsError] with every
// fault, at the setting that names the file.
func readMaterial(cfg *config.Config) (material, error) { return readMaterialAt(cfg, time.Now()) }

// readMaterialAt is [readMaterial] with warnings of what is not valid at that time.
func readMaterialAt(cfg *config.Config, at time.Time) (material, error) {
	m := material{services: map[string]serviceTLS{}}
	r := &materialReader{cfg: cfg, now: at}
	m.KeySets = r.keySets()
	for name, s := range cfg.Services {
		if s != nil && s.TLS != nil {
			m.services[name] = r.serviceTLS("services."+name+".tls", s.TLS)
		}
	}
	if h := cfg.Listen.HTTPS; h != nil {
		m.listener = r.listenerTLS(h)
	}
	m.warnings, m.certificates = r.warnings, r.certificates
	return m, r.err()
}

// materialReader reads files and collects what is wrong with them.
type materialReader struct {
	cfg      *config.Config
	now      time.Time
	faults   []config.Fault
	warnings []config.Warning

	certificates []certificate
}

func (r *materialReader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortFunc(r.faults, compareFaults)
	return &config.FaultsError{Faults: r.faults}
}

func compareFaults(a, b config.Fault) int {
	return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, cmp.Compare(a.Message, b.Message))
}

func (r *materialReader) fault(setting, format string, args ...any) {
	r.faults = append(r.faults, r.cfg.FaultAt(setting, format, args...))
}

// file reads the file that a setting names; false when it cannot be read.
func (r *materialReader) file(setting, path string) ([]byte, bool) {
	if path == "" { // the configuration is at fault there, and has been told so
		return nil, false
	}
	b, err := os.ReadFile(path)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	if err != nil {
		r.fault(setting, "cannot read %s: %v", path, err)
	}
	return b, err == nil
}

// keySets reads the key sets of identity that are files. Those at a URL are fetched by what is in
// force.
func (r *materialReader) keySets() map[string]*identity.KeySet {
	sets := map[string]*identity.KeySet{}
	for i, source := range r.cfg.Identity {
		if source.JWT == nil || source.JWT.Keys == "" || source.JWT.Published() {
			continue
		}
		setting := fmt.Sprintf("identity[%d].jwt.keys", i)
		raw, ok := r.file(setting, source.JWT.Keys)
		if !ok {
			continue
		}
		keys, err := identity.ParseKeys(raw)
		if err != nil {
			r.fault(setting, "%s", strings.TrimPrefix(err.Error(), "identity: "))
			continue
		}
		sets[source.JWT.Keys] = keys
	}
	return sets
}

// listenerTLS reads the certificates of the TLS listener.
func (r *materialReader) listenerTLS(h *config.HTTPS) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		DynamicRecordSizingDisabled: true} // bodies are passed on in pieces of 64 KiB
	if cert, ok := r.keyPair("listen.https", h.Cert, h.Key); ok {
		c.Certificates = []tls.Certificate{cert}
	}
	if h.ClientCA != "" {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.ClientCAs, _ = r.authorities("listen.https.clientCA", h.ClientCA)
	}
	return c
}

// serviceTLS reads how the endpoints of a service are verified and which certificate the gateway
// presents to them.
func (r *materialReader) serviceTLS(setting string, s *config.ServiceTLS) serviceTLS {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	h := sha256.New()
	fmt.Fprintf(h, "%q", []string{s.CA, s.ServerName, s.Cert, s.Key})
	if s.CA != "" {
		var raw []byte
		c.RootCAs, raw = r.authorities(setting+".ca", s.CA)
		h.Write(raw)
	}
	if s.Cert != "" {
		if cert, ok := r.keyPair(setting, s.Cert, s.Key); ok {
			for _, der := range cert.Certificate {
				h.Write(der)
			}
			c.Certificates = []tls.Certificate{cert}
		}
	}
	return serviceTLS{c, hex.EncodeToString(h.Sum(nil))}
}

// keyPair reads a certificate chain and its private key, which are the members cert and key of a
// setting.
func (r *materialReader) keyPair(setting, certFile, keyFile string) (cert tls.Certificate, ok bool) {
	chain, chainRead := r.file(setting+".cert", certFile)
	key, keyRead := r.file(setting+".key", keyFile)
	if !chainRead {
		return cert, false
	}
	certificates, err := certificatesIn(chain)
	if err != nil {
		r.fault(setting+".cert", "%s: %v", certFile, err)
		return cert, false
	}
	r.warnExpired(setting+".cert", certificates[:1])
	r.note(setting+".cert", slices.MinFunc(certificates, compareEnds))
	if !keyRead {
		return cert, false
	}
	if cert, err = tls.X509KeyPair(chain, key); err != nil {
		r.fault(setting+".key", "%s is not the key of %s: %s", keyFile, certFile,
			strings.TrimPrefix(err.Error(), "tls: "))
		return cert, false
	}
	return cert, true
}

// authorities reads the certificates of authorities, and returns the file's bytes too.
func (r *materialReader) authorities(setting, path string) (*x509.CertPool, []byte) {
	pool := x509.NewCertPool()
	raw, ok := r.file(setting, path)
	if !ok {
		return pool, nil
	}
	certificates, err := certificatesIn(raw)
	if err != nil {
		r.fault(setting, "%s: %v", path, err)
		return pool, raw
	}
	for _, c := range certificates {
		pool.AddCert(c)
	}
	r.warnExpired(setting, certificates)
	r.note(setting, slices.MaxFunc(certificates, compareEnds))
	return pool, raw
}

// note notes when the certificates of a setting end.
func (r *materialReader) note(setting string, c *x509.Certificate) {
	r.certificates = append(r.certificates, certificate{setting, c.NotAfter})
}

func compareEnds(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }

// certificatesIn returns the certificates of a PEM file, one at least.
func certificatesIn(raw []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate that cannot be read: %w", err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return list, nil
}

// warnExpired warns of certificates of which none is valid now: whoever checks them refuses them.
func (r *materialReader) warnExpired(setting string, certificates []*x509.Certificate) {
	for _, c := range certificates {
		if !r.now.Before(c.NotBefore) && !r.now.After(c.NotAfter) {
			return
		}
	}
	c := certificates[len(certificates)-1]
	what := "expired at " + c.NotAfter.UTC().Format(time.RFC3339)
	if r.now.Before(c.NotBefore) {
		what = "is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
	}
	r.warnings = append(r.warnings, r.cfg.WarningAt(setting, "the certificate of %q %s", c.Subject.String(), what))
}
