package interop

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// curlFile is what the service offers, curlUpload what it gets.
var curlFile, curlUpload = patterned(1 << 20), patterned(10 << 20)

func patterned(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

func curlService(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/file":
		http.ServeContent(w, r, "file.bin", time.Time{}, bytes.NewReader(curlFile))
	case "/upload":
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
	case "/hints":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprint(w, "the page")
	case "/stream": // a length that nobody knows, in pieces, with a trailer
		w.Header().Set("Trailer", "Peers-Sum")
		for piece := range 4 {
			_, _ = w.Write(curlFile[piece<<18 : (piece+1)<<18]) // curl sees a body cut short
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Peers-Sum", "of four pieces")
	}
}

// curlWay is how curl reaches the service.
type curlWay struct {
	name, base string
	flags      []string
	version    string // of the response, as %{http_version} says it; "": whichever
}

func TestCurl(t *testing.T) {
	t.Parallel()
	service := startService(t, curlService)
	g := startGateway(t, oneService(service))
	upload := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(upload, curlUpload, 0o600); err != nil {
		t.Fatal(err)
	}
	trust := []string{"--cacert", certificate(t).certFile}
	for _, way := range []curlWay{
		{"direct", "http://" + service, []string{"--http1.1"}, "1.1"},
		{"http1.0", "http://" + g.http, []string{"--http1.0"}, ""}, // 1.0 or 1.1, both are right (RFC 9110 §6.2)
		{"http1.1", "http://" + g.http, []string{"--http1.1"}, "1.1"},
		{"h2c", "http://" + g.http, []string{"--http2-prior-knowledge"}, "2"},
		{"https http1.1", "https://" + g.https, append(trust, "--http1.1"), "1.1"},
		{"https h2", "https://" + g.https, append(trust, "--http2"), "2"},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			t.Run("get", way.get)
			t.Run("head", way.head)
			t.Run("ranges", way.ranges)
			t.Run("stream", way.stream)
			t.Run("early hints", way.hints)
			if way.name != "h2c" { // curl 7.88 fails at the second request without TLS, whatever the server
				t.Run("connection kept", way.kept)
			}
			t.Run("upload", func(t *testing.T) { way.upload(t, upload) })
			if way.version == "1.1" {
				t.Run("upload that waits", func(t *testing.T) { way.uploadWaits(t, upload) })
				t.Run("upload in chunks", func(t *testing.T) {
					way.upload(t, upload, "--header",
						"Transfer-Encoding: chunked")
				})
			}
		})
	}
}

// curled is what one run of curl gave.
type curled struct {
	status, version, connects string
	head, body, log           string
}

// curl runs curl, with a verbose log. The paths are fetched one after the other.
func (w *curlWay) curl(t *testing.T, args []string, paths ...string) curled {
	t.Helper()
	dir := t.TempDir()
	head, body, log := filepath.Join(dir, "head"), filepath.Join(dir, "body"), filepath.Join(dir, "log")
	command := append([]string{"--silent", "--show-error", "--verbose", "--stderr", log, "--dump-header", head,
		"--max-time", "50",
		"--noproxy", "*", "--write-out", "%{http_code} %{http_version} %{num_connects}\n"}, w.flags...)
	command = append(command, args...)
	for _, p := range paths {
		command = append(command, "--output", body, w.base+p)
	}
	out, ok := run(t, needed(t, "curl"), command...)
	if !ok {
		t.Fatalf("curl %v failed:\n%s%s", args, out, content(t, log))
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := strings.Fields(lines[len(lines)-1])
	if len(last) != 3 {
		t.Fatalf("curl wrote %q", out)
	}
	return curled{last[0], last[1], last[2], content(t, head), content(t, body), content(t, log)}
}

// content is that of a file, "" when curl had nothing to write.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// want checks the status, the version and the body.
func (w *curlWay) want(t *testing.T, c curled, status string, body string) {
	t.Helper()
	if c.status != status || (w.version != "" && c.version != w.version) {
		t.Errorf("got status %s in HTTP/%s, want %s in HTTP/%s", c.status, c.version, status, w.version)
	}
	if c.body != body {
		t.Errorf("got %d bytes %.80q, want these %d: %.80q", len(c.body), c.body, len(body), body)
	}
}

// field says whether the head has that line; HTTP/2 writes names in lower case.
func (c curled) field(line string) bool {
	return strings.Contains(strings.ToLower(c.head), "\n"+strings.ToLower(line)+"\r\n")
}

func (w *curlWay) get(t *testing.T) {
	c := w.curl(t, nil, "/file")
	w.want(t, c, "200", string(curlFile))
}

func (w *curlWay) head(t *testing.T) {
	c := w.curl(t, []string{"--head"}, "/file")
	if c.status != "200" || !c.field(fmt.Sprintf("Content-Length: %d", len(curlFile))) {
		t.Errorf("got status %s and\n%s", c.status, c.head)
	}
}

func (w *curlWay) ranges(t *testing.T) {
	for wanted, part := range map[string][]byte{
		"0-0": curlFile[:1], "1000-1999": curlFile[1000:2000], "1000-": curlFile[1000:],
		"-500": curlFile[len(curlFile)-500:],
	} {
		c := w.curl(t, []string{"--range", wanted}, "/file")
		w.want(t, c, "206", string(part))
	}
	c := w.curl(t, []string{"--range", fmt.Sprintf("%d-", len(curlFile))}, "/file")
	if c.status != "416" || !c.field(fmt.Sprintf("Content-Range: bytes */%d", len(curlFile))) {
		t.Errorf("a range behind the end got %s and\n%s", c.status, c.head)
	}
}

func (w *curlWay) stream(t *testing.T) {
	c := w.curl(t, []string{"--header", "TE: trailers"}, "/stream")
	w.want(t, c, "200", string(curlFile))
	switch {
	case w.name == "http1.0": // knows neither chunks nor trailers (RFC 9112 §6.1)
		if c.field("Transfer-Encoding: chunked") || strings.Contains(c.head, "of four pieces") {
			t.Errorf("a client of HTTP/1.0 got\n%s", c.head)
		}
	case !c.field("Peers-Sum: of four pieces"):
		t.Errorf("the trailer is missing in\n%s", c.head)
	}
}

// hints looks for the interim response: a proxy passes it on (RFC 9110 §15.2), but not to a client
// of HTTP/1.0, which knows none.
func (w *curlWay) hints(t *testing.T) {
	c := w.curl(t, nil, "/hints")
	w.want(t, c, "200", "the page")
	interim, _, _ := strings.Cut(c.head, "\r\n\r\n")
	got := strings.Contains(interim, " 103") && strings.Contains(interim, "</style.css>; rel=preload")
	if want := w.name != "http1.0"; got != want {
		t.Errorf("early hints came: %t, want %t:\n%s", got, want, c.head)
	}
}

func (w *curlWay) kept(t *testing.T) {
	c := w.curl(t, nil, "/file", "/file")
	want := "0"
	if w.name == "http1.0" {
		want = "1" // closed behind each response, as the client did not ask for keep-alive
	}
	if c.status != "200" || c.connects != want {
		t.Errorf("the second of two requests got %s with %s new connections, want 200 with %s", c.status, c.connects,
			want)
	}
}

func (w *curlWay) upload(t *testing.T, file string, args ...string) curled {
	c := w.curl(t, append(args, "--data-binary", "@"+file, "--header", "Content-Type: application/octet-stream"),
		"/upload")
	w.want(t, c, "200", fmt.Sprintf("%d %x %v", len(curlUpload), sha256.Sum256(curlUpload), error(nil)))
	return c
}

// uploadWaits sends nothing of the body before 100 Continue has come.
func (w *curlWay) uploadWaits(t *testing.T, file string) {
	c := w.upload(t, file, "--header", "Expect: 100-continue", "--expect100-timeout", "60")
	if !strings.Contains(c.log, "< HTTP/1.1 100 Continue") {
		t.Errorf("100 Continue never came:\n%s", c.log)
	}
}
