package faults

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

func keyedConfig(store, service string) string {
	return fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: %s
services:
  order: {endpoints: [%q]}
routes:
  - name: keyed
    match: {methods: [POST], path: /keyed}
    service: order
    idempotency: {required: true, record: [2xx]}
`, store, service)
}

// tell sends a command to a Redis.
func tell(t *testing.T, address, command string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if reply, err := bufio.NewReader(c).ReadString('\n'); err != nil || reply != "+OK\r\n" {
		t.Fatalf("%s: %q, %v", command, reply, err)
	}
}

// refusedByStore sends keyed requests until one is refused since the store does not take it.
func refusedByStore(t *testing.T, url, key string) (a answer) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for i := 0; time.Now().Before(deadline); i++ {
		a = send(t, http.MethodPost, url+"/keyed", "Idempotency-Key", fmt.Sprint(key, i))
		if a.reason == "store-unavailable" {
			return a
		}
	}
	t.Fatalf("no request is refused; the last one: %d %s", a.status, a.reason)
	return a
}

// TestFaultsOfRedis: a store that takes no writes is not one that is gone.
func TestFaultsOfRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Run(t, redistest.Options{})
	g := harness.StartGateway(t, keyedConfig("{redis: {addresses: ["+fmt.Sprintf("%q", redis.Addr())+
		"], timeout: 2s}}", plain(t, http.StatusOK).URL))

	tell(t, redis.Addr(), "CONFIG SET maxmemory 1")
	a := refusedByStore(t, g.URL, "full-")
	logged(t, g, "level=WARN", "route=keyed", "reason=store-unavailable", "OOM command not allowed",
		"request="+a.request)
	logged(t, g, "level=ERROR", "the store takes no writes", "OOM command not allowed")
	measured(t, g.AdminURL, "sluice_store_up 0")
	shown(t, g.AdminURL, `"state": "no-writes"`, "OOM command not allowed")

	tell(t, redis.Addr(), "CONFIG SET maxmemory 0")
	redis.Kill()
	logged(t, g, "level=ERROR", "the store does not answer", "connection refused")
	a = refusedByStore(t, g.URL, "gone-")
	logged(t, g, "level=WARN", "route=keyed", "reason=store-unavailable", "connection refused")
	measured(t, g.AdminURL, "sluice_store_up 0")
	shown(t, g.AdminURL, `"up": false`, "connection refused")
}

// TestFullDisk: the gateway runs where its store has a disk of a few MiB, which it fills by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	response := make([]byte, 200<<10)
	rand.Read(response) // what can be compressed would not fill it
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(response) }))
	t.Cleanup(service.Close)
	dir, disk := t.TempDir(), t.TempDir()
	address, admin, path := harness.Address(t), harness.Address(t), filepath.Join(dir, "sluice.yaml")
	text := strings.NewReplacer("@http@", address, "@admin@", admin).Replace(
		keyedConfig("{embedded: {dir: "+disk+"}}", service.URL))
	write(t, path, []byte(text))
	program := build.Sluice(t)
	g := harness.StartProgram(t, "gateway on a small disk", limit, func() *exec.Cmd {
		return exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
			`mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" run -c "$3"`, "sh", disk, program, path)
	}, func() bool {
		resp, err := client.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	a := refusedByStore(t, "http://"+address, "k-")
	logged(t, g, "level=WARN", "route=keyed", "reason=store-unavailable", "no space left on device",
		"request="+a.request)
	logged(t, g, "level=ERROR", "the disk failed", "no space left on device", disk)
	measured(t, "http://"+admin, "sluice_store_up 0")
	shown(t, "http://"+admin, `"state": "no-writes"`, "no space left on device")
}
