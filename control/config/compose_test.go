package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gatewayFolder has a bootstrap and what the document of documentText refers to; it returns the bootstrap's path.
func gatewayFolder(t *testing.T, bootstrap string) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{
		"bootstrap.yaml": bootstrap, "absent.txt": "shop\n",
		"absent.jwks": `{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}]}`,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "bootstrap.yaml")
}

func TestComposeExpandsAtTheGateway(t *testing.T) {
	t.Setenv("DOCUMENT_TEST_ABSENT", "7s")
	d := parseDocument(t, strings.Replace(documentText, "http://${env:DOCUMENT_TEST_ABSENT}:80", "http://a:80", 1))
	path := gatewayFolder(t, "listen: {http: 127.0.0.1:18080}\nstore: {memory: {}}\n")
	c, err := Compose(d.JSON(), path)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(path)
	if got := time.Duration(c.Routes[0].Timeout); got != 7*time.Second {
		t.Errorf("timeout %s, want that of the gateway's environment, 7s", got)
	}
	if got := c.Identity[0].JWT.Keys; got != filepath.Join(folder, "absent.jwks") {
		t.Errorf("keys in %s, want the bootstrap's folder", got)
	}
	if c.Identity[0].JWT.Audience != "shop" || c.Listen.HTTP != "127.0.0.1:18080" || c.Store.Memory == nil {
		t.Errorf("audience %q, listener %s, memory %v", c.Identity[0].JWT.Audience, c.Listen.HTTP, c.Store.Memory)
	}
	if c.Admin.Token != "" {
		t.Error("the token of the control plane's file is in force")
	}
}

func TestComposeNamesThePlaceOfEachFault(t *testing.T) {
	d := parseDocument(t, documentText)
	path := gatewayFolder(t, "listen: {http: 127.0.0.1:9901}\n")
	t.Setenv("DOCUMENT_TEST_ABSENT", "0ms")
	_, err := Compose(d.JSON(), path)
	faults, ok := errors.AsType[*FaultsError](err)
	if !ok || len(faults.Faults) != 2 {
		t.Fatalf("error %v, want the timeout's fault and that of the listeners", err)
	}
	text := err.Error()
	for _, want := range []string{"routes[0].timeout: *** is less than 1ms", "127.0.0.1:9901 is taken by listen.http"} {
		if !strings.Contains(text, want) {
			t.Errorf("error %q lacks %q", text, want)
		}
	}
	at := d.Place(faults.Faults[1].Message)
	if at.File != "d.yaml" || at.Line != 17 || at.Path != "routes[0].timeout" {
		t.Errorf("place %+v, want line 17 of d.yaml", at)
	}
}

func TestComposeTakesNoOtherDocument(t *testing.T) {
	path := gatewayFolder(t, "")
	deep := strings.Repeat("[", depthMax+2) + strings.Repeat("]", depthMax+2)
	for _, document := range []string{
		"", "[]", "null", "{", `{"version":1} {}`, `{"a":1,"a":2}`, `{"routes":` + deep + "}", "version: 1",
		`{"` + strings.Repeat("k", keyMax+1) + `":1}`, `"` + strings.Repeat("x", composedMax) + `"`,
	} {
		if _, err := Compose([]byte(document), path); !errors.Is(err, ErrDocument) {
			t.Errorf("%.40s: error %v, want ErrDocument", document, err)
		}
	}
	for _, document := range []string{`{}`, `{"version":1,"ruotes":[]}`, `{"version":"1"}`} {
		_, err := Compose([]byte(document), path)
		if _, ok := errors.AsType[*FaultsError](err); !ok {
			t.Errorf("%s: error %v, want its faults", document, err)
		}
	}
}

func TestComposeIgnoresWhatIsTheGatewaysOwn(t *testing.T) {
	path := gatewayFolder(t, "admin: {address: 127.0.0.1:9}\n")
	c, err := Compose([]byte(`{"version":1,"admin":{"address":"0.0.0.0:1"},"store":{"memory":{}},"routes":[
		{"name":"a","match":{"path":"/"},"respond":{"status":204}}]}`), path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Admin.Address != "127.0.0.1:9" || c.Store.Memory != nil {
		t.Errorf("admin %s, memory store %v: the document's are in force", c.Admin.Address, c.Store.Memory)
	}
}

func TestBootstrapTellsEveryFault(t *testing.T) {
	for text, want := range map[string]string{
		"routes: []":                      "routes: unknown key",
		"control: {cert: a.pem}":          "control.key: is missing",
		"control: {listen: {address: x}}": "control.listen: unknown key",
		"listen: {http: 1}":               "listen.http: 1 is a number",
		"version: 2":                      "version: 2 is not 1",
		`data: ""`:                        "data: is empty",
		"control: {cert: a, key: b, serverName: /}": "control.serverName: \"/\" is neither",
	} {
		_, err := LoadBootstrap(gatewayFolder(t, text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bootstrap.yaml:1:") {
			t.Errorf("%s: error %v, want %s with its place", text, err, want)
		}
	}
	if _, err := LoadBootstrap(filepath.Join(t.TempDir(), "no.yaml")); !errors.Is(err, ErrUnreadable) {
		t.Errorf("error %v, want ErrUnreadable", err)
	}
}

func TestBootstrapHasDefaults(t *testing.T) {
	b, err := LoadBootstrap("")
	if err != nil {
		t.Fatal(err)
	}
	if b.Listen.HTTP != "127.0.0.1:8080" || b.Admin.Address != "127.0.0.1:9901" || b.Store.Embedded == nil ||
		!filepath.IsAbs(b.Data) || b.Control != nil {
		t.Errorf("bootstrap %+v", b)
	}
	if _, err := b.Empty(); err != nil {
		t.Errorf("the empty configuration: %v", err)
	}
	path := gatewayFolder(t, "data: ./last\n")
	b, err = LoadBootstrap(path)
	if err != nil || b.Data != filepath.Join(filepath.Dir(path), "last") {
		t.Errorf("data %s, error %v", b.Data, err)
	}
	c, err := b.Empty()
	if err != nil || len(c.Files()) != 1 || c.Files()[0] != path {
		t.Errorf("files %v, error %v; want the bootstrap's", c.Files(), err)
	}
}
