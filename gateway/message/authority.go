package message

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync/atomic"
)

// Authority is for which hosts a TLS connection may be used (RFC 9110 §7.4): those that its
// certificate covers, and where clients show certificates of their own only the one that the
// handshake was about. Nil is a cleartext connection, which is for every host. It is safe for
// concurrent use.
type Authority struct {
	cert   *x509.Certificate
	server string                 // the name of the handshake (SNI) where only it is served; else ""
	last   atomic.Pointer[string] // the host that was found covered last: a connection has one, as a rule
}

// NewAuthority returns the authority of a connection whose handshake was done with c. Nil: the
// certificate is not one that is known beforehand.
func NewAuthority(c *tls.Config, state tls.ConnectionState) *Authority {
	if len(c.Certificates) != 1 {
		return nil
	}
	a := &Authority{cert: c.Certificates[0].Leaf}
	if a.cert == nil {
		var err error
		if a.cert, err = x509.ParseCertificate(c.Certificates[0].Certificate[0]); err != nil {
			return nil // no handshake succeeds with one
		}
	}
	if c.ClientAuth != tls.NoClientCert {
		a.server = strings.ToLower(strings.TrimSuffix(state.ServerName, "."))
	}
	return a
}

// Covers reports whether a request for that host, with its port or without, may come on the
// connection. A request without a host (HTTP/1.0) names nobody else's. A client that named no
// server in its handshake, as none does that has only an address, differs from nothing there.
func (a *Authority) Covers(host string) bool {
	if a == nil || host == "" {
		return true
	}
	if last := a.last.Load(); last != nil && *last == host {
		return true
	}
	name := hostName(host)
	if a.server != "" && !strings.EqualFold(strings.TrimSuffix(name, "."), a.server) || !certifies(a.cert, name) {
		return false
	}
	kept := strings.Clone(host)
	a.last.Store(&kept)
	return true
}

// certifies reports whether a certificate is for that name. One without any names its owner in the
// subject, as it was done before there were others; clients that still accept it compare with that.
func certifies(cert *x509.Certificate, name string) bool {
	if len(cert.DNSNames) == 0 && len(cert.IPAddresses) == 0 {
		return strings.EqualFold(strings.TrimSuffix(name, "."), cert.Subject.CommonName)
	}
	return cert.VerifyHostname(name) == nil
}

// hostName returns a host without its port and the brackets of an address.
func hostName(host string) string {
	if strings.HasPrefix(host, "[") {
		name, _, _ := strings.Cut(host[1:], "]")
		return name
	}
	name, _, _ := strings.Cut(host, ":")
	return name
}
