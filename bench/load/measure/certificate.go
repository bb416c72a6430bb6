package measure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	mathbig "math/big"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that [WriteCertificate] writes.
const (
	CertificateFile = "cert.pem"
	KeyFile         = "key.pem"
)

// benchHost is whom the loads ask for, and whose certificate the contenders show.
const benchHost = "bench.example"

// NewCertificate returns a certificate for this machine's own address and its key, as PEM.
func NewCertificate() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("measure: certificate: %w", err)
	}
	template := &x509.Certificate{SerialNumber: mathbig.NewInt(1), Subject: pkix.Name{CommonName: "sluice bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{benchHost}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, fmt.Errorf("measure: certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("measure: certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// WriteCertificate writes a new certificate and its key into a folder.
func WriteCertificate(folder string) error {
	certificate, key, err := NewCertificate()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(folder, CertificateFile), certificate, 0o600),
		os.WriteFile(filepath.Join(folder, KeyFile), key, 0o600))
}
