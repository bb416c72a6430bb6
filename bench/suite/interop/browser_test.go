package interop

import (
	"crypto/ed25519"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed browser/page.html
var browserPage []byte

// seenInBrowser is what a script saw of a response, or of a stream.
type seenInBrowser struct {
	Status int
	Type   string
	Header map[string]string
	Body   map[string]any
	States []string
	Text   string
}

// TestBrowser: a script of another origin, in Chromium, reads what the gateway says: the statuses, the bodies and the
// fields that are exposed, and the stream of a transaction's status, for which EventSource brings a cookie.
func TestBrowser(t *testing.T) {
	chromium := needed(t, "chromium")
	held := newGate()
	service := httptest.NewServer(browserService(held))
	t.Cleanup(service.Close)
	result := make(chan map[string]seenInBrowser, 1)
	token, keys := tokenOf(t, "ann")
	page := httptest.NewServer(browserOrigin(held, token, result))
	t.Cleanup(page.Close)
	g := startGateway(t, browserConfig(t, service.URL, origin(page.URL, "www"), keys))
	settings, err := json.Marshal(map[string]string{"gateway": origin("http://"+g.http, "api"), "token": token})
	if err != nil {
		t.Fatal(err)
	}
	startChromium(t, chromium, origin(page.URL, "www")+"/#"+url.PathEscape(string(settings)))
	select {
	case seen := <-result:
		checkBrowser(t, seen)
	case <-time.After(2 * limit):
		t.Fatal("the page did not come to its end")
	}
}

// checkBrowser compares what the script saw with what it is to see.
func checkBrowser(t *testing.T, seen map[string]seenInBrowser) {
	if e := seen["error"]; e.Text != "" {
		t.Fatalf("the script failed: %s\nit has seen %+v", e.Text, seen)
	}
	for _, c := range []struct {
		name, reason string
		status       int
		fields       string // that are read
		member, want string // of the body
	}{
		{"created", "", 201, "X-Order-Id Sluice-Request-Id", "sku", "a"},
		{"replayed", "", 201, "X-Order-Id Idempotent-Replayed Sluice-Request-Id", "sku", "a"},
		{"reused", "idempotency-key-reused", 422, "Sluice-Reason", "reason", "idempotency-key-reused"},
		{"no key", "idempotency-key-missing", 400, "Sluice-Reason", "reason", "idempotency-key-missing"},
		{"in progress", "request-in-progress", 409, "Sluice-Reason Retry-After", "reason", "request-in-progress"},
		{"held", "", 201, "X-Order-Id", "sku", "held"},
		{"head", "", 200, "X-Order-Id", "text", ""},
		{"get", "", 200, "X-Order-Id", "id", "1"},
		{"limited", "rate-limited", 429, "Sluice-Reason Retry-After RateLimit", "limit", "few"},
		{"breaker", "breaker-open", 503, "Sluice-Reason Retry-After", "service", "weak"},
		{"no route of another origin", "", 499, "", "error", "TypeError"},
		{"succeeded", "", 200, "Sluice-Request-Id", "state", "succeeded"},
		{"failed", "transaction-failed", 409, "Sluice-Reason", "step", "reserve"},
		{"replayed failure", "transaction-failed", 409, "Sluice-Reason", "step", "reserve"},
		{"begun", "", 202, "Location", "steps", fmt.Sprint(seen["begun"].Body["steps"])},
		{"ended", "", 200, "Sluice-Request-Id", "state", "succeeded"},
	} {
		got, ok := seen[c.name]
		if !ok || got.Status != c.status || got.Header["Sluice-Reason"] != c.reason ||
			got.Status != 499 && got.Type != "cors" || fmt.Sprint(got.Body[c.member]) != c.want {
			t.Errorf("%s: the script saw %+v, want %d %s %s=%q", c.name, got, c.status, c.reason, c.member, c.want)
		}
		for _, field := range strings.Fields(c.fields) {
			if got.Header[field] == "" {
				t.Errorf("%s: the script does not see %s: %+v", c.name, field, got)
			}
		}
		if got.Header["X-Hidden"] != "" {
			t.Errorf("%s: the script sees what is not exposed", c.name)
		}
	}
	if state := seen["begun"].Body["state"]; state != "pending" && state != "unknown" { // the coordinator is yet to say
		t.Errorf("a transaction that goes on is %v", state)
	}
	if got := strings.Join(seen["the stream"].States, " "); !strings.HasSuffix(got, " succeeded") {
		t.Errorf("the stream's states are %q", got)
	}
	if got := strings.Join(seen["a stream without the cookie"].States, " "); got != "refused" {
		t.Errorf("without the cookie the stream's states are %q", got)
	}
}

// browserConfig has everything that the page asks for.
func browserConfig(t *testing.T, service, from, keys string) string {
	t.Helper()
	return fmt.Sprintf(`identity: [{jwt: {keys: %q, claim: sub, cookie: session}}]
services:
  order: {endpoints: [%q], timeout: 60s}
  weak: {endpoints: [%q], breaker: {errors: 50%%, minRequests: 2, openFor: 10m}}
limits: {few: {scope: local, rate: 1/h}}
x-cors: &cors {origins: [%q], credentials: true, expose: [X-Order-Id]}
coordinator: {dtm: {endpoints: [%q], branches: "127.0.0.1:0"}}
transactions:
  checkout: &checkout
    wait: 60s
    steps:
      - name: reserve
        do: {service: order, method: POST, path: /reserve, body: {sku: "{body.sku}"}}
        undo: {service: order, method: POST, path: /undo}
        failOn: [409]
  slow: {<<: *checkout, wait: 1s}
routes:
  - name: create
    match: {methods: [POST], path: /v1/orders}
    service: order
    cors: *cors
    idempotency: {required: true, whileInFlight: reject}
  - {name: read, match: {methods: [GET], path: "/v1/orders/{id}"}, service: order, cors: *cors}
  - {name: limited, match: {path: /v1/limited}, service: order, cors: *cors, limits: [few]}
  - {name: weak, match: {path: /v1/weak}, service: weak, cors: *cors}
  - {name: private, match: {path: /v1/private}, service: order}
  - name: checkout
    match: {methods: [POST], path: /v1/checkouts}
    transaction: checkout
    cors: *cors
    idempotency: {required: true}
  - name: slow
    match: {methods: [POST], path: /v1/slow}
    transaction: slow
    status: "/v1/slow/{id}"
    cors: *cors
    idempotency: {required: true}
`, keys, service, service, from, startCoordinator(t))
}

// gate holds requests until somebody lets them go.
type gate struct{ came, on chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}, 16), make(chan struct{}, 16)} }

// browserService is the service behind the gateway.
func browserService(held *gate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var body struct{ SKU string }
		_ = json.Unmarshal(b, &body)
		if body.SKU == "held" {
			held.came <- struct{}{}
			select {
			case <-held.on:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Order-Id", "1")
		w.Header().Set("X-Hidden", "1")
		status, text := 201, fmt.Sprintf(`{"sku":%q,"id":"1"}`, body.SKU)
		switch {
		case r.URL.Path == "/v1/weak":
			status = 500
		case body.SKU == "refused":
			status = 409
		case r.Method != http.MethodPost || r.URL.Path == "/v1/limited":
			status = 200
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// browserOrigin serves the page, which is logged in at the whole site by a cookie, and what the page tells and asks.
func browserOrigin(held *gate, token string, result chan<- map[string]seenInBrowser) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Domain: "shop.test", Path: "/", HttpOnly: true})
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(browserPage)
	})
	m.HandleFunc("GET /held", func(http.ResponseWriter, *http.Request) { <-held.came })
	m.HandleFunc("GET /release", func(http.ResponseWriter, *http.Request) { held.on <- struct{}{} })
	var once sync.Once
	m.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		seen := map[string]seenInBrowser{}
		err := json.NewDecoder(r.Body).Decode(&seen)
		if err != nil {
			seen["error"] = seenInBrowser{Text: err.Error()}
		}
		once.Do(func() { result <- seen })
	})
	return m
}

// origin is the address under a name of the site shop.test, which Chromium finds here.
func origin(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return "http://" + net.JoinHostPort(name+".shop.test", u.Port())
}

// tokenOf makes a token of somebody, and the file with the key that verifies it.
func tokenOf(t *testing.T, who string) (token, keys string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"exp":%d}`, who, time.Now().Add(time.Hour).Unix())
	signed := encode([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + encode([]byte(claims))
	keys = filepath.Join(t.TempDir(), "jwks.json")
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","alg":"EdDSA","x":%q}]}`, encode(public))
	if err := os.WriteFile(keys, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(ed25519.Sign(private, []byte(signed))), keys
}

// startCoordinator runs the coordinator that SLUICE_DTM names and returns its address.
func startCoordinator(t *testing.T) string {
	t.Helper()
	program := os.Getenv("SLUICE_DTM")
	if program == "" {
		t.Fatal("SLUICE_DTM does not name the coordinator's program; make interop sets it to that of bin/sluice-dtm")
	}
	address := ""
	cmd := exec.Command("sh", "-c", `exec "$@" >&2`, "sh", program, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	startProcess(t, cmd, func(line []byte) bool {
		_, after, ok := strings.Cut(string(line), "sluice-dtm listening on ")
		if ok {
			address = strings.TrimSpace(after)
		}
		return ok
	})
	return "http://" + address
}

// startChromium opens a page in a browser that knows nothing, finds shop.test here and asks nobody else for anything.
func startChromium(t *testing.T, program, page string) {
	t.Helper()
	home, err := os.MkdirTemp("", "sluice-interop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-dev-shm-usage",
		"--host-resolver-rules=MAP *.shop.test 127.0.0.1, EXCLUDE 127.0.0.1, MAP * ~NOTFOUND",
		"--user-data-dir="+filepath.Join(home, "profile"), "--remote-debugging-port=0", page)
	cmd.Env = append(os.Environ(), "HOME="+home)
	browser := startProcess(t, cmd, func(line []byte) bool {
		return strings.Contains(string(line), "DevTools listening on")
	})
	t.Cleanup(func() { // by itself it ends its helpers first, which write into the folder
		if err := browser.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		for deadline := time.Now().Add(limit); browser.Signal(syscall.Signal(0)) == nil; {
			if time.Now().After(deadline) {
				t.Error("Chromium does not end")
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}
