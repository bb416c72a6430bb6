package source

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/sluice-gateway/sluice/control/config"
)

// local is what a gateway of a fleet has of its own: its bootstrap, and the certificate that it shows to the control
// plane.
type local struct {
	path      string
	bootstrap *config.Bootstrap

	mu     sync.Mutex // guards what follows, which connections are made with
	tls    *tls.Config
	digest [sha256.Size]byte // of the files that tls was made of
}

// load reads the bootstrap and the certificate. What was read before stays where one of them is at fault.
func (l *local) load() error {
	b, err := config.LoadBootstrap(l.path)
	if err != nil {
		return err
	}
	var settings *tls.Config
	var digest [sha256.Size]byte
	if c := b.Control; c != nil {
		digest = fileList{c.Cert, c.Key, c.CA}.content()
		if settings, err = clientTLS(c); err != nil {
			return fmt.Errorf("source: control of the bootstrap: %w", err)
		}
	}
	l.bootstrap = b
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tls, l.digest = settings, digest
	return nil
}

var errData = errors.New("source: data of the bootstrap differs from that of the start: that takes a restart")

// reload reads all again; changed says that the next connection is made with other files.
func (l *local) reload() (changed bool, err error) {
	before, data := l.digest, l.bootstrap.Data
	if err := l.load(); err != nil {
		return false, err
	}
	if l.bootstrap.Data != data {
		err = errData
	}
	return l.digest != before, err
}

// files are those of the bootstrap, the certificate's among them.
func (l *local) files() fileList { return fileList(l.bootstrap.Files()) }

// transport returns what the next connection is made with; nil: without TLS.
func (l *local) transport() (*tls.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tls, nil
}

func clientTLS(c *config.ControlClient) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("cert and key: %w", err)
	}
	settings := &tls.Config{
		Certificates: []tls.Certificate{pair}, ServerName: c.ServerName, MinVersion: tls.VersionTLS12,
	}
	if c.CA == "" {
		return settings, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	settings.RootCAs = x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s has no certificate", c.CA)
	}
	return settings, nil
}
