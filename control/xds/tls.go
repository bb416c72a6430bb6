package xds

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/control/config"
)

// readTLS reads the certificates of control.listen; nil where none is written. The error is a
// [*config.FaultsError] with each fault at its setting.
func readTLS(cfg *config.Config) (*tls.Config, error) {
	l := cfg.ControlPlane().Listen
	if l.Cert == "" {
		return nil, nil
	}
	r := certificateReader{cfg: cfg}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		// A resumed session would be that of a certificate which has been replaced since.
		SessionTicketsDisabled: true,
	}
	chain, key := r.file("cert", l.Cert), r.file("key", l.Key)
	if chain != nil && key != nil {
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			r.fault("key", "%s and %s are no certificate and key: %s", l.Cert, l.Key,
				strings.TrimPrefix(err.Error(), "tls: "))
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if l.ClientCA != "" {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if pem := r.file("clientCA", l.ClientCA); pem != nil && !c.ClientCAs.AppendCertsFromPEM(pem) {
			r.fault("clientCA", "%s: no certificate in PEM form", l.ClientCA)
		}
	}
	if len(r.faults) > 0 {
		slices.SortFunc(r.faults, func(a, b config.Fault) int {
			return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
		})
		return nil, &config.FaultsError{Faults: r.faults}
	}
	return c, nil
}

// warnExpired logs that nodes will not take the certificate.
func (c *controlPlane) warnExpired(cfg *config.Config, now time.Time) {
	t := c.tls.Load()
	if t == nil || t.Certificates[0].Leaf == nil {
		return
	}
	if leaf := t.Certificates[0].Leaf; now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		w := cfg.WarningAt("control.listen.cert", "nodes refuse the certificate of %q: it is valid from %s to %s",
			leaf.Subject.String(), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
		c.Logger.Warn("the configuration needs a look", "warning", config.Fault(w).String())
	}
}

type certificateReader struct {
	cfg    *config.Config
	faults []config.Fault
}

func (r *certificateReader) fault(setting, format string, args ...any) {
	r.faults = append(r.faults, r.cfg.FaultAt("control.listen."+setting, format, args...))
}

// file reads a file; nil when it cannot be read.
func (r *certificateReader) file(setting, path string) []byte {
	b, err := os.ReadFile(path)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	if err != nil {
		r.fault(setting, "cannot read %s: %v", path, err)
		return nil
	}
	return b
}

// handshakes tells the operator of nodes that cannot connect: a node whose certificate is of another authority, or has
// expired, hears little more than that one is wanted.
type handshakes struct {
	credentials.TransportCredentials
	plane *plane
}

func (h handshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := h.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // a probe of the port that says nothing is no node
		from := caller{address: conn.RemoteAddr().String()}
		h.plane.refuse(from, "", status.Error(codes.Unauthenticated, err.Error()))
	}
	return c, info, err
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.plane}
}
