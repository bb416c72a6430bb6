package gateway

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A request through the whole gateway, from socket to socket: what it allocates besides what client
// and service of this test do, which is nothing.
func TestAllocationsOfARequest(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates by itself; make allocations runs this without it")
	}
	t.Run("without access log", func(t *testing.T) { allocationsOfARequest(t, "") })
	t.Run("with traces of which none is sampled", func(t *testing.T) {
		allocationsOfARequest(t, "tracing: {endpoint: 'http://127.0.0.1:1', sample: 0%}\n")
	})
	t.Run("with access log", func(t *testing.T) {
		allocationsOfARequest(t, "log: {access: {output: "+filepath.Join(t.TempDir(), "access.log")+"}}\n")
	})
}

// leastAllocs returns the allocations of one call, the least of some averages: those of the whole process are counted,
// and what a gateway does in the background after its start comes only once.
func leastAllocs(call func()) float64 {
	least := testing.AllocsPerRun(2000, call)
	for tries := 1; tries < 4 && least > 0; tries++ {
		least = min(least, testing.AllocsPerRun(2000, call))
	}
	return least
}

func allocationsOfARequest(t *testing.T, more string) {
	address := plainService(t)
	g := start(t, more+`version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
services:
  a: {endpoints: ["http://`+address+`"], breaker: {errors: 50%}}
  hedged: {endpoints: ["http://`+address+`"], timeout: 60s, hedge: {after: 30s}}
  measured: {endpoints: ["http://`+address+`"], timeout: 60s, hedge: {}, retries: {budget: 0%}}
limits: {own: {scope: local, per: [principal], rate: 1000000/s, burst: 1000000}}
routes:
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a, limits: [own], idempotency: {required: true, maxOpenKeys: 1000000}}
  - {name: hedged, match: {path: /hedged}, service: hedged, timeout: 60s}
  - {name: measured, match: {path: /measured}, service: measured, fallback: {status: 200}}
  - {name: weighted, match: {path: /weighted}, service: {a: 95, hedged: 5}}
  - {name: all, match: {path: /**}, service: a, limits: [own]}
`)
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	response := make([]byte, 64<<10)
	ask := func(request []byte) {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(response)
		if err != nil || !bytes.HasPrefix(response[:n], []byte("HTTP/1.1 200")) {
			t.Fatalf("%v %q", err, response[:n])
		}
	}
	const fields = "Host: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n"
	for _, path := range []string{"/things/1?q=2", "/hedged", "/measured", "/weighted"} {
		get := []byte("GET " + path + " HTTP/1.1\r\n" + fields + "\r\n")
		if n := leastAllocs(func() { ask(get) }); n > 0 {
			t.Errorf("a GET of %s makes %v allocations, at most 0", path, n)
		}
	}
	body := `{"sku":"SKU-1","note":"` + strings.Repeat("n", 487) + `"}`
	post := []byte("POST /keyed HTTP/1.1\r\n" + fields + "Content-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) +
		"\r\nIdempotency-Key: 00000000\r\n\r\n" + body)
	key := bytes.Index(post, []byte("00000000"))
	i := 0
	if n := leastAllocs(func() {
		i++
		for at, v := key+7, i; v > 0; at, v = at-1, v/10 {
			post[at] = byte('0' + v%10)
		}
		ask(post)
	}); n > 3 {
		t.Errorf("a keyed POST makes %v allocations, at most 3", n)
	}
	if n := leastAllocs(func() { ask(post) }); n > 0 {
		t.Errorf("a replay makes %v allocations, at most 0", n)
	}
}

// plainService answers every request, whatever it is, without an allocation.
func plainService(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 64<<10)
				response := []byte("HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
				for {
					if _, err := c.Read(b); err == io.EOF || err != nil {
						return
					}
					if _, err := c.Write(response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
