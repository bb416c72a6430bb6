package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvoyDefaults(t *testing.T) {
	c := mustParseDocument(t, "version: 1\n", "")
	expect(t, "address", c.Envoy.Listen.Address, "127.0.0.1:18001")
	expect(t, "advertise", c.Envoy.Advertise, "127.0.0.1:18001")
	c = mustParseDocument(t, "version: 1\nenvoy: {listen: {address: '127.0.0.1:18002'}}\n", "")
	expect(t, "advertise", c.Envoy.Advertise, "127.0.0.1:18002")
	c = mustParseDocument(t, "version: 1\nenvoy: {advertise: 'policies.internal:18001'}\n", "")
	expect(t, "advertise", c.Envoy.Advertise, "policies.internal:18001")
}

func TestEnvoyFaults(t *testing.T) {
	const reached = " can be reached from other machines: it needs cert, key and clientCA, since whoever connects " +
		"can " +
		"claim keys and record responses"
	file := filepath.Join(t.TempDir(), "f.pem") // what is in it is looked at by whoever serves
	if err := os.WriteFile(file, []byte("-"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []faultCase{
		{"an open address", `{listen: {address: ":18001"}}`,
			[]string{"2:27: envoy.listen.address: :18001" + reached}},
		{"certificates without an authority", `{listen: {address: "10.0.0.1:18001", cert: F, key: F}}`,
			[]string{"2:27: envoy.listen.address: 10.0.0.1:18001" + reached}},
		{"no address", `{listen: {address: here}}`, []string{"2:27: envoy.listen.address: \"here\" is not an address " +
			"to listen on such as 127.0.0.1:8080: missing port in address"}},
		{"the admin address", `{listen: {address: "127.0.0.1:9901"}}`,
			[]string{"2:27: envoy.listen.address: 127.0.0.1:9901 is taken by admin.address"}},
		{"a certificate without its key", `{listen: {cert: F}}`,
			[]string{"2:24: envoy.listen.cert: is of no use without key"}},
		{"an authority alone", `{listen: {clientCA: F}}`,
			[]string{"2:28: envoy.listen.clientCA: is of no use without cert"}},
		{"advertised everywhere", `{advertise: "0.0.0.0:18001"}`,
			[]string{"2:20: envoy.advertise: \"0.0.0.0:18001\" is not an address that an Envoy could connect to"}},
		{"advertised without a port", `{advertise: sluice}`,
			[]string{"2:20: envoy.advertise: \"sluice\" is not host:port: missing port in address"}},
		{"a gateway anywhere", `{gateway: ":8080"}`,
			[]string{"2:18: envoy.gateway: \":8080\" is not an address that an Envoy could connect to"}},
		{"files of no machine", `{client: {cert: a.crt, key: /a.key, ca: /ca.crt}}`, []string{
			"2:24: envoy.client.cert: " +
				"\"a.crt\" is a file of Envoy's machine: its absolute path is wanted"}},
		{"a client without a key", `{client: {cert: /a.crt, ca: /ca.crt}}`,
			[]string{"2:9: envoy.client.key: is missing"}},
		{"unknown", `{port: 1}`, []string{"2:9: envoy.port: unknown key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkFaults(t, "version: 1\nenvoy: "+strings.ReplaceAll(c.document, " F", " "+file)+"\n", c.want)
		})
	}
}
