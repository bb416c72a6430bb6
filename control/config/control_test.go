package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestControlDefaults(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, "version: 1\n", "")
	expect(t, "not written", c.ControlPlane().Listen.Address, "127.0.0.1:18000")
	c = mustParseDocument(t, "version: 1\ncontrol: {canary: {}}\n", "")
	expect(t, "canary", *c.ControlPlane().Canary, Canary{10, Duration(5 * time.Minute), 2})
	expect(t, "listen", c.ControlPlane().Listen.Address, "127.0.0.1:18000")
}

func TestControlFaults(t *testing.T) {
	t.Parallel()
	checkFaults(t, `version: 1
control:
  listen: {address: "0.0.0.0:18000"}
`, []string{
		`3:21: control.listen.address: 0.0.0.0:18000 can be reached from other machines: it needs cert, key and ` +
			`clientCA`,
	})
	checkFaults(t, `version: 1
control:
  listen: {address: nowhere}
  nodes: {"spiffe://shop/*": edge}
  canary: {share: 0%, for: 1ms, errors: 101%}
`, []string{
		`3:21: control.listen.address: "nowhere" is not an address to listen on such as 127.0.0.1:8080: ` +
			`missing port in address`,
		`4:3: control.nodes: nodes needs listen.clientCA: without certificates nobody can say which node it is`,
		`5:19: control.canary.share: 0% would try a change on no node; it is more than 0%`,
		`5:28: control.canary.for: "1ms" is less than 1s`,
		`5:41: control.canary.errors: "101%" is not a percentage from 0% to 100%`,
	})
	checkFaults(t, `version: 1
admin: {address: "127.0.0.1:18000"}
control:
  listen: {}
`, []string{"4:3: control.listen.address: 127.0.0.1:18000 is taken by admin.address"})
}

func TestControlNodesFaults(t *testing.T) {
	t.Parallel()
	checkFaults(t, `version: 1
control:
  listen: {cert: a.pem, clientCA: ca.pem}
  nodes:
    "spiffe://shop/*/*": edge
    "a b": edge
    gateway.shop: "edge-*"
    "*.shop": "*-*"
    "x": ""
`, []string{
		"3:18: control.listen.cert: cannot read DIR/a.pem: no such file or directory",
		"3:35: control.listen.clientCA: cannot read DIR/ca.pem: no such file or directory",
		`5:26: control.nodes.spiffe://shop/*/*: "spiffe://shop/*/*" has more than one *`,
		`6:12: control.nodes.a b: "a b" is not a name in a certificate: a URI such as spiffe://shop/gateway/*, ` +
			"or a DNS name",
		`7:19: control.nodes.gateway.shop: the * of "edge-*" stands for that of the key, and "gateway.shop" has none`,
		`8:15: control.nodes.*.shop: "*-*" has more than one *`,
		`9:10: control.nodes.x: "" is not the id of a node: 1 to 256 visible ASCII characters`,
	})
}

func TestControlCertificatesFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a.pem", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for listen, want := range map[string]string{
		"{cert: a.pem}":      "control.listen.cert: cert and key go together",
		"{key: a.pem}":       "control.listen.key: cert and key go together",
		"{clientCA: ca.pem}": "control.listen.clientCA: clientCA needs cert and key",
		"{cert: a.pem, key: a.pem, clientCA: ca.pem}":  "control.listen.clientCA: clientCA needs nodes",
		`{address: ":18000", cert: a.pem, key: a.pem}`: "control.listen.address: :18000 can be reached",
	} {
		_, err := Parse("t.yaml", []byte("version: 1\ncontrol: {listen: "+listen+"}\n"), dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", listen, err, want)
		}
	}
}
