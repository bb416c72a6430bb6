package config

import (
	"strings"
	"testing"
)

// TestListenersThatAreOpen: whoever writes only https has no cleartext port open.
func TestListenersThatAreOpen(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"crt": "", "key": ""})
	const https = `https: {address: ":8443", cert: crt, key: key}`
	for document, want := range map[string]string{
		"{}":                                   "127.0.0.1:8080",
		"{maxHeader: 1KiB}":                    "127.0.0.1:8080",
		"{" + https + "}":                      Off,
		"{http: off, " + https + "}":           Off,
		`{http: "off", ` + https + "}":         Off,
		`{http: ":8080", ` + https + "}":       ":8080",
		"{http: 127.0.0.1:8081}":               "127.0.0.1:8081",
		`{http: "127.0.0.1:0", ` + https + "}": "127.0.0.1:0",
	} {
		c := mustParseDocument(t, "version: 1\nlisten: "+document+"\n", dir)
		expect(t, document, c.Listen.HTTP, want)
	}
}

func TestListenFaults(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		`{http: ""}`:             "listen.http: is empty: write host:port, or off for no listener without TLS",
		"{http: off}":            "listen.http: is off and there is no listen.https: no client could reach the gateway",
		"{http: none}":           `listen.http: "none" is not an address to listen on such as 127.0.0.1:8080`,
		"{maxBuffered: 1KiB}":    `listen.maxBuffered: "1KiB" is less than 1MiB`,
		"{maxInFlight: 0}":       "listen.maxInFlight: ",
		"{maxInFlight: many}":    "listen.maxInFlight: ",
		"{minRate: 256}":         "listen.minRate: 256 is not a number of bytes a second such as 256B/s or 64KiB/s",
		"{minRate: 256B}":        `listen.minRate: "256B" is not a number of bytes a second such as 256B/s or 64KiB/s`,
		"{minRate: 2GiB/s}":      `listen.minRate: "2GiB/s" is more than 1MiB/s`,
		"{minRate: 10/s}":        `listen.minRate: "10/s" is not a number of bytes a second such as 256B/s or 64KiB/s`,
		"{http: off, http2: on}": `listen.http2: unknown key`,
	} {
		_, err := Parse("t.yaml", []byte("version: 1\nlisten: "+document+"\n"), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", document, err, want)
		}
	}
}

// TestListenInForce: what is printed of a configuration in force can be read again.
func TestListenInForce(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"crt": "", "key": ""})
	const document = "version: 1\nlisten: {https: {address: \":8443\", cert: crt, key: key}, minRate: 0B/s}\n"
	c := mustParseDocument(t, document, dir)
	b, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	again := mustParseDocument(t, string(b), dir)
	expect(t, "listen", again.Listen, c.Listen)
	expect(t, "minRate", again.Listen.MinRate, ByteRate(0))
}

func TestBodiesBeyondTheBufferAreWarnedOf(t *testing.T) {
	t.Parallel()
	const text = "is more than half of maxBuffered"
	for listen, want := range map[string]string{
		"{maxBody: 16MiB, maxBuffered: 32MiB}": "",
		"{maxBody: 17MiB, maxBuffered: 32MiB}": "2:19: warning: listen.maxBody: maxBody 17MiB " + text + " 32MiB",
		"{maxBuffered: 4MiB}":                  "2:23: warning: listen.maxBuffered: maxBody 8MiB " + text + " 4MiB",
	} {
		got := strings.Join(warningsIn(t, "version: 1\nlisten: "+listen+"\n"), "\n")
		if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", listen, got, want)
		}
	}
}
