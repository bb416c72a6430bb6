package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Whatever door a field comes by, a service sees of the gateway's fields what the gateway says: in
// the head and in the trailer, by HTTP/1.1 and HTTP/2, from anybody and from a trusted proxy.

// sender sends one POST from an address, with these fields in its head and its trailer.
type sender func(t *testing.T, g *running, from string, head, trailer [][2]string) (status string)

var senders = map[string]sender{"HTTP/1.1": sendHTTP1, "HTTP/2": sendHTTP2}

func sendHTTP1(t *testing.T, g *running, from string, head, trailer [][2]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n")
	for _, f := range head {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	b.WriteString("\r\n3\r\nabc\r\n0\r\n")
	for _, f := range trailer {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	b.WriteString("\r\n")
	w := dialFrom(t, from, g.at.HTTP)
	w.send(b.String())
	return fmt.Sprint(w.readResponse().status)
}

func sendHTTP2(t *testing.T, g *running, from string, head, trailer [][2]string) string {
	t.Helper()
	c := dialFrom(t, from, g.at.HTTP)
	defer c.Close()
	c.SetDeadline(time.Now().Add(waitLimit))
	c.send(http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	section := func(fields ...[2]string) []byte {
		block.Reset()
		for _, one := range fields {
			e.WriteField(hpack.HeaderField{Name: strings.ToLower(one[0]), Value: one[1]})
		}
		return []byte(block.String())
	}
	all := append([][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "a.test"}, {":path", "/x"}},
		head...)
	err := f.WriteSettings()
	if err == nil {
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: section(all...), EndHeaders: true})
	}
	if err == nil {
		err = f.WriteData(1, false, []byte("abc"))
	}
	if err == nil {
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: section(trailer...), EndHeaders: true,
			EndStream: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			return h.PseudoValue("status")
		}
	}
}

// names writes the fields' names with a value.
func names(list ...string) (fields [][2]string) {
	for _, n := range list {
		fields = append(fields, [2]string{n, "evil"})
	}
	return fields
}

// evil returns the names of the fields, of the head and behind the body, that still have the
// value.
func evil(r *http.Request) (left []string) {
	for _, h := range []http.Header{r.Header, r.Trailer} {
		for name, values := range h {
			if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "evil") }) {
				left = append(left, name)
			}
		}
	}
	slices.Sort(left)
	return left
}

const ownedHead = `version: 1
listen: {http: "127.0.0.1:0", maxHeader: 64KiB, trustedProxies: [127.0.0.2/32]}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
identity:
  - header: {name: X-User, trusted: [127.0.0.2/32]}
`

func TestOnlyTheGatewaySetsItsFields(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, ownedHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)

	// Every length of a name behind the prefix, both separators, three spellings.
	var always []string
	for length := 1; length <= 24; length++ {
		for _, prefix := range []string{"Sluice-", "Sluice_", "sluice-", "SLUICE_"} {
			always = append(always, prefix+strings.Repeat("o", length))
		}
	}
	always = append(always, "Sluice-Op", "Sluice-Branch", "Sluice-Transaction", "Sluice-Principal", "Sluice-Timeout",
		"Sluice.Op", "X_Forwarded_For", "X-Forwarded_Proto", "X_Forwarded_User", "X_Real_IP", "True_Client_IP",
		"Idempotency_Key", "X_User", "X.User")
	fromProxy := []string{"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-User",
		"X-Real-IP",
		"True-Client-IP", "Forwarded", "X-Forwarded-O"}
	for name, send := range senders {
		for from, pass := range map[string][]string{"127.0.0.1": nil, "127.0.0.2": fromProxy} {
			who := name + " from " + from
			head := names(append(append([]string{"X-Plain"}, always...), fromProxy...)...)
			if pass == nil {
				head = append(head, names("X-User")...)
			}
			if status := send(t, g, from, head, names("X-Checksum")); status != "200" {
				t.Errorf("%s: head: %s", who, status)
				continue
			}
			saw, _ := s.last(t)
			want := canonical(append([]string{"X-Plain", "X-Checksum"}, pass...))
			if got := evil(saw); !slices.Equal(got, want) {
				t.Errorf("%s: head: the service saw %v, want %v", who, got, want)
			}
			// Behind a body nothing of it may come, whoever sends it.
			trailer := names(append(append([]string{"X-Checksum", "X-User", "Authorization", "Cookie", "Via",
				"Traceparent",
				"X-Forwarded-For", "X-Forwarded-Host", "Idempotency-Key", "Content-Type", "Host", "If-Match",
				"Origin", "Max-Forwards"}, always...), fromProxy...)...)
			if status := send(t, g, from, nil, trailer); status != "200" {
				t.Errorf("%s: trailer: %s", who, status)
				continue
			}
			saw, _ = s.last(t)
			if got := evil(saw); !slices.Equal(got, []string{"X-Checksum"}) {
				t.Errorf("%s: trailer: the service saw %v", who, got)
			}
		}
	}
}

func canonical(list []string) (out []string) {
	for _, n := range list {
		out = append(out, http.CanonicalHeaderKey(n))
	}
	slices.Sort(out)
	return out
}

// A service cannot speak for the gateway either, in the head or behind the body.
func TestOnlyTheGatewaySpeaksForItself(t *testing.T) {
	t.Parallel()
	own := []string{"Sluice-Reason", "Sluice_Reason", "Sluice-Op", "Sluice-Requ", "Sluice.Reason",
		"Idempotent-Replayed",
		"Idempotent_Replayed", "Idempotent-Original-Date"}
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		for _, n := range append(own, "X-Plain") {
			w.Header()[n] = []string{"evil"}
		}
		w.WriteHeader(103)
		w.Header().Set("Trailer", strings.Join(append(own, "X-Checksum"), ", "))
		w.WriteHeader(200)
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		for _, n := range append(own, "X-Checksum") {
			w.Header()[http.TrailerPrefix+n] = []string{"evil"}
		}
	})
	g := start(t, ownedHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		resp, err := c.Get("http://" + g.at.HTTP + "/x")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		for where, h := range map[string]http.Header{"head": resp.Header, "trailer": resp.Trailer} {
			for n, values := range h {
				if n != "X-Plain" && n != "X-Checksum" && slices.Contains(values, "evil") {
					t.Errorf("%s: the %s has %s", name, where, n)
				}
			}
		}
		if resp.Header.Get("X-Plain") != "evil" || resp.Trailer.Get("X-Checksum") != "evil" {
			t.Errorf("%s: head %v, trailer %v", name, resp.Header, resp.Trailer)
		}
	}
}

// What a trusted proxy says of the way of a request is believed and appended to; what anybody else
// says is replaced.
func TestForwardingFields(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, ownedHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, c := range []struct {
		from string
		head [][2]string
		want map[string]string
	}{
		{"127.0.0.1", [][2]string{{"X-Forwarded-For", "198.51.100.1"}, {"X-Forwarded-Proto", "https"},
			{"X-Forwarded-Host", "shop.example"}},
			map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a.test",
				"Sluice-Principal": "ip:127.0.0.1"}},
		{"127.0.0.2", [][2]string{{"X-Forwarded-For", "198.51.100.1"}, {"X-Forwarded-Proto", "https"},
			{"X-Forwarded-Host", "shop.example"}},
			map[string]string{"X-Forwarded-For": "198.51.100.1, 127.0.0.2", "X-Forwarded-Proto": "https",
				"X-Forwarded-Host": "shop.example", "Sluice-Principal": "ip:198.51.100.1"}},
		// Of two nobody knows which one is the proxy's.
		{"127.0.0.2", [][2]string{{"X-Forwarded-Proto", "https"}, {"X-Forwarded-Proto", "http"},
			{"X-Forwarded-Host", "x"}, {"X-Forwarded-Host", "x"}},
			map[string]string{"X-Forwarded-Proto": "http", "X-Forwarded-Host": "x", "X-Forwarded-For": "127.0.0.2"}},
		{"127.0.0.1", [][2]string{{"Traceparent", trace}, {"Tracestate", "a=1"}, {"Baggage", "b=2"}},
			map[string]string{"Traceparent": trace, "Tracestate": "a=1", "Baggage": "b=2"}},
		{"127.0.0.1", [][2]string{{"Traceparent", "00-x"}, {"Tracestate", "a=1"}, {"Baggage", "b=2"}},
			map[string]string{"Traceparent": "", "Tracestate": "", "Baggage": "b=2"}},
		{"127.0.0.1", [][2]string{{"Traceparent", trace}, {"Traceparent", trace}}, map[string]string{"Traceparent": ""}},
	} {
		for name, send := range senders {
			if status := send(t, g, c.from, c.head, nil); status != "200" && name == "HTTP/1.1" {
				t.Errorf("%s: %v: %s", name, c.head, status)
			}
			saw, _ := s.last(t)
			for field, want := range c.want {
				if got := strings.Join(saw.Header.Values(field), "|"); got != want {
					t.Errorf("%s from %s, %v: %s is %q, want %q", name, c.from, c.head, field, got, want)
				}
			}
		}
	}
}
