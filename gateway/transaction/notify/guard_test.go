package notify

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "2606:4700::1111": true, "64:ff9b::1.1.1.1": true, "2002:101:101::1": true,
		"::ffff:1.1.1.1": true,
		"127.0.0.1":      false, "127.8.9.10": false, "0.0.0.0": false, "10.0.0.1": false, "172.16.0.1": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.100.100.200": false, "168.63.129.16": false,
		"192.0.0.192": false, "198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "fec0::1": false,
		"ff02::1": false, "2001:db8::1": false, "2001:0:53aa:64c:0:0:0:1": false, "64:ff9b:1::1": false,
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::169.254.169.254": false, "64:ff9b::10.0.0.1": false, "2002:7f00:1::1": false,
		"2002:a9fe:a9fe::1": false,
	} {
		if got := Public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// The address is looked at behind the resolver: a name that leads inside is refused too.
func TestDial(t *testing.T) {
	var asked int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++ }))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	n := New(Options{})
	for _, target := range []string{s.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port,
		"http://2130706433:" + port, "http://0x7f.1:" + port} {
		err := n.post(t.Context(), &notice{gid: "g", body: []byte("{}")}, Receiver{URL: target, Secret: secret}, 1)
		if err == nil || asked != 0 {
			t.Fatalf("%s was dialled", target)
		}
		if strings.Contains(target, "127.0.0.1") && !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", target, err)
		}
	}
	to := Receiver{URL: s.URL, Secret: secret, Private: true}
	if err := n.post(t.Context(), &notice{gid: "g", body: []byte("{}")}, to, 1); err != nil || asked != 1 {
		t.Errorf("a private one: %v", err)
	}
}

// A receiver that goes on and on is not read to its end.
func TestEndlessResponse(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != `{"id":"g"}` {
			t.Errorf("body %s", body)
		}
		line := bytes.Repeat([]byte("x"), 1<<10)
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	began := time.Now()
	n := New(Options{})
	to := Receiver{URL: s.URL, Secret: secret, Private: true}
	err := n.post(t.Context(), &notice{gid: "g", body: []byte(`{"id":"g"}`)}, to, 1)
	if err != nil || time.Since(began) >= attemptMax {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
