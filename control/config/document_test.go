package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const documentText = `version: 1
listen: {http: "127.0.0.1:1"}
admin: {token: "0123456789abcdef0123"}
store: {redis: {password: "hunter22"}}
x-defaults: &d {timeout: 3s, retries: {attempts: 1}}
services:
  order.v2: {<<: *d, endpoints: ["http://${env:DOCUMENT_TEST_ABSENT}:80"]}
  stock:
    <<: *d
    endpoints: ["unix:stock.sock", "unix:/run/stock.sock"]
identity:
  - jwt: {keys: absent.jwks, audience: "${file:absent.txt}"}
routes:
  - name: b
    match: {path: /b}
    service: order.v2
    timeout: ${env:DOCUMENT_TEST_ABSENT}
  - {name: a, match: {path: /a}, respond: {status: 204}}
`

func parseDocument(t *testing.T, text string) *Document {
	t.Helper()
	d, err := ParseDocument("d.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDocumentIsAsWrittenInOneOrder(t *testing.T) {
	d := parseDocument(t, documentText)
	want := `{"identity":[{"jwt":{"audience":"${file:absent.txt}","keys":"absent.jwks"}}],` +
		`"routes":[{"match":{"path":"/b"},"name":"b","service":"order.v2","timeout":"${env:DOCUMENT_TEST_ABSENT}"},` +
		`{"match":{"path":"/a"},"name":"a","respond":{"status":204}}],` +
		`"services":{"order.v2":{"endpoints":["http://${env:DOCUMENT_TEST_ABSENT}:80"],"retries":{"attempts":1},` +
		`"timeout":"3s"},"stock":{"endpoints":["unix:stock.sock","unix:/run/stock.sock"],"retries":{"attempts":1},` +
		`"timeout":"3s"}},"version":1}`
	if got := string(d.JSON()); got != want {
		t.Errorf("JSON\n got %s\nwant %s", got, want)
	}
	again := parseDocument(t, string(d.JSON()))
	if string(again.JSON()) != want || again.Hash() != d.Hash() {
		t.Errorf("read again: %s, hash %s, want the same and %s", again.JSON(), again.Hash(), d.Hash())
	}
	if d.Config().Routes[0].Name != "b" || len(d.Config().Services["stock"].ParsedEndpoints()) != 2 {
		t.Error("the configuration is not the document's")
	}
}

func TestDocumentOfAFolderIsOne(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml": "version: 1\nroutes:\n  - {name: a, match: {path: /a}, respond: {status: 204}}\n",
		"b.json": `{"routes": [{"name": "b", "match": {"path": "/b"}, "respond": {"status": 204}}]}`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := LoadDocument(folder)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"routes":[{"match":{"path":"/a"},"name":"a","respond":{"status":204}},` +
		`{"match":{"path":"/b"},"name":"b","respond":{"status":204}}],"version":1}`
	if string(d.JSON()) != want {
		t.Errorf("JSON %s, want %s", d.JSON(), want)
	}
	at := d.Place(`routes[1].match.path: "x" is wrong`)
	if at.File != filepath.Join(folder, "b.json") || at.Line != 1 || at.Path != "routes[1].match.path" {
		t.Errorf("place %+v, want routes[1].match.path in b.json:1", at)
	}
}

func TestDocumentTellsEveryFaultButTheGatewaysOwn(t *testing.T) {
	text := strings.Replace(documentText, "service: order.v2", "service: ordre", 1) + "limits: {l: {rate: x}}\n"
	_, err := ParseDocument("d.yaml", []byte(text), t.TempDir())
	faults, ok := errors.AsType[*FaultsError](err)
	if !ok || len(faults.Faults) != 2 {
		t.Fatalf("faults\n%v\nwant those of service and rate", err)
	}
}

func TestDocumentNamesItsSecrets(t *testing.T) {
	keyed := strings.Replace(documentText, "    timeout: $", "    idempotency: {required: true}\n    timeout: $", 1)
	d := parseDocument(t, keyed+
		"sales:\n  s:\n    routes: [b]\n    opens: 2026-11-11T00:00:00+08:00\n"+
		"    item: query.sku\n    stock: {A: 1}\n    waitingRoom: {secret: 0123456789abcdef0123456789abcdef}\n")
	if list := d.Secrets(); len(list) != 1 || list[0].Path != "sales.s.waitingRoom.secret" || list[0].Line != 26 {
		t.Errorf("secrets %v, want that of the waiting room, in line 26", list)
	}
	var paths []string
	for _, l := range d.Deferred() {
		paths = append(paths, l.Path)
	}
	want := "services.order.v2.endpoints[0] identity[0].jwt.audience routes[0].timeout"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("deferred %s, want %s", got, want)
	}
}

// The default of a secret's variable is a secret that is written out; of other settings it is nothing to hide.
func TestDefaultsThatAreSecrets(t *testing.T) {
	const text = "version: 1\nservices: {s: {endpoints: ['http://h'], timeout: '${env:DOCUMENT_TEST_ABSENT:-2s}'}}\n" +
		"routes: [{name: b, match: {path: /b, methods: [POST]}, service: s, idempotency: {required: true}}]\n" +
		"sales: {s: {routes: [b], item: query.sku, stock: {A: 1}, opens: 2026-11-11T00:00:00+08:00,\n" +
		"  waitingRoom: {secret: '${env:DOCUMENT_TEST_ABSENT%s}'}}}\n"
	for usual, want := range map[string]int{"": 0, ":-": 0, ":-0123456789abcdef0123456789abcdef": 1} {
		d := parseDocument(t, fmt.Sprintf(text, usual))
		if len(d.Secrets()) != want || len(d.Deferred()) != 2 {
			t.Errorf("%q: secrets %v, deferred %v", usual, d.Secrets(), d.Deferred())
		}
		if len(d.Lacking()) != 0 {
			t.Errorf("%q: lacking %v", usual, d.Lacking())
		}
	}
}

func TestDocumentTellsWhatTheControlPlaneLacks(t *testing.T) {
	for _, section := range []string{`admin: {token: "${env:DOCUMENT_TEST_ABSENT}"}`} {
		text := strings.Replace(documentText, `admin: {token: "0123456789abcdef0123"}`, section, 1)
		_, err := ParseDocument("d.yaml", []byte(text), t.TempDir())
		faults, ok := errors.AsType[*FaultsError](err)
		if !ok || len(faults.Faults) != 1 || faults.Faults[0].Line != 3 {
			t.Errorf("%s: error %v, want one fault in line 3", section, err)
		}
	}
}

// A control plane finds endpoints itself, and hands on where: a variable would be another one at each gateway.
func TestDocumentHasNoVariablesWhereEndpointsAreFound(t *testing.T) {
	t.Setenv("DOCUMENT_TEST_HERE", "shop")
	for _, variable := range []string{"DOCUMENT_TEST_HERE", "DOCUMENT_TEST_ABSENT"} {
		text := "version: 1\nservices:\n  a: {endpointsFrom: {kubernetes: {service: s, namespace: '${env:" + variable +
			"}', port: 80}}}\n"
		_, err := ParseDocument("d.yaml", []byte(text), t.TempDir())
		if err == nil || !strings.HasPrefix(err.Error(), "d.yaml:3:59: a variable: endpoints are found by the ") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", variable, err)
		}
	}
	t.Setenv("DOCUMENT_TEST_ABSENT", "shop")
	mustParseDocument(t, "version: 1\nservices:\n  a: {endpointsFrom: {kubernetes: {service: s, "+
		"namespace: '${env:DOCUMENT_TEST_ABSENT}', port: 80}}}\n", "") // a gateway's own file may have one
}
