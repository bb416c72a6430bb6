package interop

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// uploadClient sends uploads and returns a line for each: the status, or what went wrong.
type uploadClient struct {
	name string
	send func(t *testing.T, url string, size, runs int) []string
}

func uploadClients() []uploadClient {
	list := []uploadClient{{"net/http", goUploads(false)}, {"net/http, chunks", goUploads(true)}}
	for _, client := range []string{"http", "pieces", "chunks", "fetch", "axios"} {
		list = append(list, uploadClient{"node " + client, func(t *testing.T, url string, size, runs int) []string {
			cmd := nodeScript(t, "upload.js")
			cmd.Args = append(cmd.Args, client, url, strconv.Itoa(size), strconv.Itoa(runs))
			return lines(t, cmd)
		}})
	}
	for _, client := range []string{"requests", "requests-chunks", "library"} {
		list = append(list, uploadClient{"python " + client, func(t *testing.T, url string, size, runs int) []string {
			return lines(t, exec.Command(needed(t, "python3"), filepath.Join("python", "upload.py"), client, url,
				strconv.Itoa(size), strconv.Itoa(runs), certificate(t).certFile))
		}})
	}
	return list
}

// lines runs a program to its end and returns the lines that it prints.
func lines(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, errors.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func goUploads(chunks bool) func(t *testing.T, url string, size, runs int) []string {
	return func(t *testing.T, url string, size, runs int) (results []string) {
		client := &http.Client{Transport: transport(t, "http/1.1"), Timeout: limit}
		body := make([]byte, size)
		for range runs {
			var from io.Reader = bytes.NewReader(body)
			if chunks {
				from = struct{ io.Reader }{from}
			}
			resp, err := client.Post(url, "application/octet-stream", from)
			if err != nil {
				results = append(results, err.Error())
				continue
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				results = append(results, err.Error())
			} else {
				results = append(results, strconv.Itoa(resp.StatusCode))
			}
			resp.Body.Close()
		}
		return results
	}
}

// A refusal reaches every client, however long its upload is: one of the gateway's, and one of the
// service's.
func TestRefusedUploads(t *testing.T) {
	t.Parallel()
	service := startService(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the service does not want it", http.StatusConflict)
	})
	g := startGateway(t, fmt.Sprintf(`services: {a: {endpoints: ["http://%s"]}}
routes:
  - {name: refused, match: {path: /refused}, respond: {status: 403}}
  - {name: service, match: {path: /service}, service: a}
`, service))
	for _, client := range uploadClients() {
		for _, scheme := range []string{"http", "https"} {
			t.Run(client.name+" "+scheme, func(t *testing.T) {
				base := "http://" + g.http
				if scheme == "https" {
					base = "https://" + g.https
				}
				for path, want := range map[string]string{"/refused": "403", "/service": "409"} {
					for _, c := range []struct{ size, runs int }{{1 << 20, 20}, {8 << 20, 5}, {64 << 20, 1}} {
						results := client.send(t, base+path, c.size, c.runs)
						lost := 0
						for _, r := range results {
							if r != want {
								lost++
							}
						}
						if lost > 0 || len(results) != c.runs {
							t.Errorf("%s with %d bytes: %d of %d refusals are lost: %q", path, c.size, lost, c.runs,
								results)
						}
					}
				}
			})
		}
	}
}
