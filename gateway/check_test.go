package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// writePair writes a certificate that ends at a moment, and its key.
func writePair(t *testing.T, dir, name string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: end.Add(-time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, path), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckLoadsWhatRunLoads: each file that a configuration names is read as the gateway reads it,
// and what is wrong with it is said where it is named.
func TestCheckLoadsWhatRunLoads(t *testing.T) {
	dir := t.TempDir()
	soon := time.Now().Add(30 * time.Minute)
	writePair(t, dir, "one", soon)
	writePair(t, dir, "two", soon)
	writePair(t, dir, "old", time.Now().Add(-time.Hour))
	for name, text := range map[string]string{"text": "hello\n", "keys.json": `{"keys":[]}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const service = "\nroutes: [{name: r, match: {path: /}, service: s}]\nservices: {s: {endpoints: [\"https://h\"], "
	for _, c := range []struct{ document, fault, warning string }{
		{document: "listen: {https: {address: ':0', cert: one.crt, key: one.key, clientCA: two.crt}}"},
		{"listen: {https: {address: ':0', cert: one.crt, key: two.key}}",
			"2:53: listen.https.key: DIR/two.key is not the key of DIR/one.crt: private key does not match", ""},
		{"listen: {https: {address: ':0', cert: one.crt, key: text}}",
			"2:53: listen.https.key: DIR/text is not the key of DIR/one.crt: failed to find any PEM data", ""},
		{"listen: {https: {address: ':0', cert: one.key, key: one.key}}",
			"2:39: listen.https.cert: DIR/one.key: no certificate in PEM form", ""},
		{"listen: {https: {address: ':0', cert: one.crt, key: one.key, clientCA: text}}",
			"2:72: listen.https.clientCA: DIR/text: no certificate in PEM form", ""},
		{"listen: {https: {address: ':0', cert: old.crt, key: old.key}}",
			"", `2:39: warning: listen.https.cert: the certificate of "CN=old" expired at `},
		{"identity: [{jwt: {keys: keys.json}}]", "2:25: identity[0].jwt.keys: jwt.keys: none of 0 keys", ""},
		{"identity: [{jwt: {keys: text}}]", "2:25: identity[0].jwt.keys: jwt.keys is not a JWK set", ""},
		{service + "tls: {ca: two.crt, cert: one.crt, key: one.key}}}", "", ""},
		{service + "tls: {ca: text}}}", "4:52: services.s.tls.ca: DIR/text: no certificate in PEM form", ""},
		{service + "tls: {ca: old.crt}}}", "", `4:52: warning: services.s.tls.ca: the certificate of "CN=old" expired at `},
		{service + "tls: {cert: one.crt, key: two.key}}}",
			"4:68: services.s.tls.key: DIR/two.key is not the key of DIR/one.crt", ""},
	} {
		cfg, err := config.Parse("t.yaml", []byte("version: 1\n"+c.document+"\n"), dir)
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := Check(cfg)
		var faults *config.FaultsError
		if c.fault == "" && err != nil || c.fault != "" && !errors.As(err, &faults) {
			t.Errorf("%s:\n%v, want %q", c.document, err, c.fault)
		}
		if c.fault != "" && !strings.HasPrefix(strings.ReplaceAll(fmt.Sprint(err), dir, "DIR"), "t.yaml:"+c.fault) {
			t.Errorf("%s:\n%v, want\n%s", c.document, err, c.fault)
		}
		var shown []string
		for _, w := range warnings {
			if strings.Contains(w.Message, "certificate") {
				shown = append(shown, w.String())
			}
		}
		if (c.warning == "") != (len(shown) == 0) ||
			!strings.HasPrefix(strings.Join(shown, "\n"), "t.yaml:"+c.warning) && c.warning != "" {
			t.Errorf("%s:\n%q, want %q", c.document, shown, c.warning)
		}
	}
}

// TestFaultsOfFilesBesideOthers: what is wrong with files is told at once with what is wrong with the
// configuration, and each fault once.
func TestFaultsOfFilesBesideOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Parse("t.yaml", []byte(`version: 1
listen: {https: {address: ":1", cert: text, key: text, clientCA: none}, ports: 1}
identity:
  - jwt: {keys: text}
  - jwt: {keys: none}
  - jwt: {audience: a}
  - jwt:
services: {a: {endpoints: ["https://h"], tls: {ca: text}}, b: , c: {endpoints: ["https://h"], tls: {cert: text}}}
routes: [{name: r, match: {path: a}, service: a}]
`), dir)
	got := strings.Split(strings.ReplaceAll(fmt.Sprint(WithFiles(err)), dir, "DIR"), "\n")
	for i, want := range []string{
		"2:39: listen.https.cert: DIR/text: no certificate",
		"2:66: listen.https.clientCA: cannot read DIR/none: no such",
		"2:73: listen.ports: unknown key", "4:17: identity[0].jwt.keys: jwt.keys is not a JWK set",
		"5:17: identity[1].jwt.keys: cannot read DIR/none: no such", "6:5: identity[2].jwt.keys: is missing",
		"7:5: identity[3].jwt: is empty", "8:52: services.a.tls.ca: DIR/text: no certificate",
		"8:60: services.b: is empty", "8:107: services.c.tls.cert: DIR/text: no certificate",
		"8:107: services.c.tls.cert: needs key", "9:34: routes[0].match.path",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], "t.yaml:"+want) {
			t.Errorf("fault %d of\n%s\nwant %s", i, strings.Join(got, "\n"), want)
		}
	}
	if unreadable := errors.New("x"); WithFiles(unreadable) != unreadable {
		t.Error("another error was changed")
	}
}
