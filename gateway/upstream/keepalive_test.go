package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Under requests that never pause, a connection is replaced at its age, and none of them fails.
func TestConnectionsHaveAnAge(t *testing.T) {
	t.Parallel()
	for _, i := range []*instance{newInstance(t), newHTTP2Instance(t)} {
		s := settings(i)
		s.KeepAlive = KeepAlive{Idle: time.Minute, MaxAge: 50 * time.Millisecond}
		svc := started(t, s, quiet)
		until(t, "the third connection is used", func() bool { get(t, svc); return i.connections.Load() >= 3 })
		if n := i.open.Load(); n > 2 {
			t.Errorf("%d connections are open", n)
		}
		until(t, "the last one closes though nothing comes", func() bool { return i.open.Load() == 0 })
	}
}

// What is under way at the age goes on to its end.
func TestAgeLeavesExchangesAlone(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		finish := make(chan struct{})
		i := &instance{}
		srv := newProtocolServer(t, h2, 0, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PUT" {
				io.WriteString(w, "ha")
				http.NewResponseController(w).Flush()
				<-finish
				io.WriteString(w, "lf")
			}
		}, i)
		s := settings(srv)
		s.KeepAlive = KeepAlive{Idle: time.Minute, MaxAge: 20 * time.Millisecond}
		svc := started(t, s, quiet)
		under, err := svc.Send(context.Background(), exchange("PUT"), &message.Message{})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "others go to new connections", func() bool { get(t, svc); return i.connections.Load() >= 4 })
		close(finish)
		if got := read(t, under, nil); got.body != "half" {
			t.Errorf("HTTP/2 %v: ended with %q", h2, got.body)
		}
		until(t, "all close", func() bool { return i.open.Load() == 0 })
	}
}

func TestIdleTimeIsASetting(t *testing.T) {
	t.Parallel()
	for _, i := range []*instance{newInstance(t), newHTTP2Instance(t)} {
		s := settings(i)
		s.KeepAlive = KeepAlive{Idle: 100 * time.Millisecond, MaxAge: time.Hour}
		svc := started(t, s, quiet)
		get(t, svc)
		get(t, svc)
		if n := i.connections.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		until(t, "it closes", func() bool { return i.open.Load() == 0 })
	}
	// A shorter time holds for those that are idle already.
	i := newInstance(t)
	svc := started(t, settings(i), quiet)
	get(t, svc)
	s := settings(i)
	s.KeepAlive.Idle = 100 * time.Millisecond
	svc.Configure(s)
	until(t, "it closes", func() bool { return i.open.Load() == 0 })
}

// says starts a service that says how long it keeps connections, and closes none itself.
func says(t *testing.T, keepAlive string) *instance {
	i := &instance{}
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		i.connections.Add(1)
		i.open.Add(1)
		defer i.open.Add(-1)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			i.requests.Add(1)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nKeep-Alive: %s\r\nContent-Length: 0\r\n\r\n", keepAlive)
		}
	})
	i.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: "h"}
	return i
}

// A connection is given up before the service does it.
func TestKeepAliveOfTheService(t *testing.T) {
	t.Parallel()
	i := says(t, "timeout=1")
	svc := started(t, settings(i), quiet)
	began := time.Now()
	get(t, svc)
	get(t, svc)
	if n := i.connections.Load(); n > 1 && time.Since(began) < 500*time.Millisecond {
		t.Errorf("%d connections", n)
	}
	until(t, "it closes", func() bool { return i.open.Load() == 0 })
	if took := time.Since(began); took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("closed after %s", took)
	}
	for said, connections := range map[string]int64{
		"timeout=0": 6, "max=0": 6, "timeout=5, max=2": 2, "MAX = 2": 2, `timeout="5"`: 1, "": 1, "x": 1,
		"timeout=-1": 1, "timeout=99999999999999999999": 1, "timeout=9999999999": 1, "max=99999999999": 1,
	} {
		i := says(t, said)
		svc := started(t, settings(i), quiet)
		for range 6 {
			get(t, svc)
		}
		if n := i.connections.Load(); n != connections {
			t.Errorf("%q: %d connections for 6 requests, want %d", said, n, connections)
		}
	}
}
