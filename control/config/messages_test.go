package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMessagesForPeople: values that look right to whoever wrote them.
func TestMessagesForPeople(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"typographic quotes", "version: 1\nadmin: {address: “127.0.0.1:9901”}\nroutes:\n  - {name: “r”, match: " +
			"{path: “/a”}, respond: {status: 200}}\n“listen”: {}\n", []string{
			"2:18: admin.address: \"“127.0.0.1:9901”\" is not an address to listen on such as 127.0.0.1:8080: " +
				"port \"9901”\" is not a number from 0 to 65535" +
				` (the “ is part of the text; the quotes of YAML are " and ')`,
			"4:12: routes[0].name: \"“r”\" is not a name of a-z, 0-9, dots, dashes and underlines" +
				` (the “ is part of the text; the quotes of YAML are " and ')`,
			"4:31: routes[0].match.path: \"“/a”\" has to begin with /" + ` (the “ is part of the text; the ` +
				`quotes of YAML are " and ')`,
			"5:1: “listen”: unknown key" + ` (the “ is part of the text; the quotes of YAML are " and ')`}},
		{"numbers for addresses", "version: 1\nadmin: {address: 22530}\nlisten: {http: 8080}\nservices:\n  a: " +
			"{endpoints: [7001]}\n", []string{
			"2:18: admin.address: 22530 is a number, and not an address such as 127.0.0.1:9901",
			"3:16: listen.http: 8080 is a number, and not an address such as 127.0.0.1:8080",
			"5:19: services.a.endpoints[0]: 7001 is a number, and not an address such as http://127.0.0.1:7001"}},
		{"minutes for an address", "version: 1\nadmin: {address: 22:30}\nlisten: {http: 6:15:30}\n", []string{
			"2:18: admin.address: 22:30 can be reached from other machines: it needs a token (admin.token); " +
				"for health and metrics alone there is admin.probes",
			`3:16: listen.http: "6:15:30" is not an address to listen on such as 127.0.0.1:8080: too many ` +
				`colons in address`}},
		{"a number for a text", "version: 1\nstore: {redis: {keyPrefix: 7}}\n",
			[]string{"2:28: store.redis.keyPrefix: 7 is not text"}},
	})
}

func TestTypographicQuotesInText(t *testing.T) {
	c := mustParseDocument(t, "version: 1\nroutes:\n  - {name: r, match: {path: /a}, respond: {status: 200, "+
		"body: “hello”}}\n", "")
	expect(t, "body", c.Routes[0].Respond.Body, "“hello”")
}

// TestDefaultsOfVariables: as in a shell, what is behind :- stands for a variable that is not set or is empty.
func TestDefaultsOfVariables(t *testing.T) {
	t.Setenv("SLUICE_TEST_WAIT", "7s")
	t.Setenv("SLUICE_TEST_EMPTY", "")
	c := mustParseDocument(t, `version: 1
services:
  a: {endpoints: ["http://${env:SLUICE_TEST_NOT_SET:-h}:1${env:SLUICE_TEST_NOT_SET:-}"], timeout: "${env:SLUICE_TEST_WAIT:-3s}"}
  b: {endpoints: ["http://h"], timeout: "${env:SLUICE_TEST_EMPTY:-4s}"}
`, "")
	expect(t, "endpoint", c.Services["a"].Endpoints[0], "http://h:1")
	expect(t, "set", c.Services["a"].Timeout, Duration(7*time.Second))
	expect(t, "empty", c.Services["b"].Timeout, Duration(4*time.Second))
	checkFaults(t, "version: 1\nlisten:\n  maxConnections: ${env:SLUICE_TEST_NOT_SET:-many}\n", []string{
		"3:19: listen.maxConnections: *** is not a whole number"})
}

// TestExpandedNumbers: a setting that is a number takes one from the environment and from a file.
func TestExpandedNumbers(t *testing.T) {
	t.Setenv("SLUICE_TEST_CONNECTIONS", "77")
	t.Setenv("SLUICE_TEST_STATUS", "404")
	t.Setenv("SLUICE_TEST_WORD", "many")
	t.Setenv("SLUICE_TEST_OCTAL", "010")
	dir := write(t, map[string]string{"keys": "5\n"})
	c := mustParseDocument(t, `version: 1
listen:
  maxConnections: ${env:SLUICE_TEST_CONNECTIONS}
services: {s: {endpoints: ["http://h"]}}
routes:
  - {name: r, match: {path: /a}, respond: {status: "${env:SLUICE_TEST_STATUS}", body: "${env:SLUICE_TEST_STATUS}"}}
  - {name: i, match: {path: /i}, service: s, idempotency: {maxOpenKeys: '${file:keys}', record: ['${env:SLUICE_TEST_STATUS}']}}
`, dir)
	expect(t, "connections", c.Listen.MaxConnections, 77)
	expect(t, "a text stays one", c.Routes[0].Respond, &StaticResponse{Status: 404, Body: "404"})
	expect(t, "keys", c.Routes[1].Idempotency.MaxOpenKeys, 5)
	expect(t, "record", c.Routes[1].Idempotency.Record, []StatusRange{{404, 404}})
	b, err := c.Redacted()
	if err != nil || !strings.Contains(string(b), `"maxConnections": "***"`) {
		t.Errorf("%s, %v", b, err)
	}
	checkFaults(t, "version: 1\nlisten:\n  maxConnections: ${env:SLUICE_TEST_WORD}\n", []string{
		"3:19: listen.maxConnections: *** is not a whole number"})
	checkFaults(t, "version: 1\nlisten:\n  maxConnections: ${env:SLUICE_TEST_OCTAL}\n", []string{
		"3:19: listen.maxConnections: *** is not a whole number"})
	checkFaults(t, "version: 1\nlisten:\n  maxConnections: '77'\n", []string{
		`3:19: listen.maxConnections: "77" is not a whole number`})
}

// TestVersionInEachFile: the files of a folder may all say the version; no two may differ in it.
func TestVersionInEachFile(t *testing.T) {
	services := "services: {one: {endpoints: [\"http://h\"]}}\n"
	dir := write(t, map[string]string{"a.yaml": "version: 1\n" + services, "b.yaml": "\ufeffversion: 1\n",
		"c.json": `{"version": 1}`})
	expect(t, "services", len(mustLoad(t, dir).Services), 1)

	for document, want := range map[string]string{
		"version: 2\n":   "b.yaml:1:1: version: 2, and at DIR/a.yaml:1 it is 1",
		"version: '1'\n": `b.yaml:1:1: version: "1", and at DIR/a.yaml:1 it is 1`,
		"version: {}\n":  "b.yaml:1:1: version: given twice, first at DIR/a.yaml:1",
	} {
		if err := os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != "DIR/"+want {
			t.Errorf("%q: %v, want %s", document, err, want)
		}
	}
}
