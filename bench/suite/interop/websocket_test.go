package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// kind is the kind of a WebSocket message.
type kind string

const (
	text   kind = "text"
	binary kind = "binary"
)

// abnormal is the code that stands for an end without a close frame (RFC 6455 §7.1.5).
const abnormal = 1006

// closed is how a WebSocket connection ended, as one side saw it.
type closed struct {
	Code   int
	Reason string
}

func (c *closed) Error() string { return fmt.Sprintf("closed with %d %q", c.Code, c.Reason) }

// wsConn is one side of a WebSocket connection, whichever library it is of. One goroutine uses it.
type wsConn interface {
	protocol() string                           // the subprotocol agreed on
	deflated() bool                             // permessage-deflate agreed on; clients only
	send(k kind, data []byte) error             // one message
	sendFragments(k kind, parts [][]byte) error // one message in several frames
	ping() error                                // returns when the pong is there
	receive() (k kind, data []byte, err error)  // the next message; a *closed when there is none
	close(code int, reason string) error        // returns when the other side has closed too
	abort()                                     // ends the connection without a close frame
}

// wsOffer is what a client offers when it connects.
type wsOffer struct {
	Protocols []string
	Deflate   bool
}

// wsClient connects with one library.
type wsClient interface {
	dial(ctx context.Context, url string, offer wsOffer) (wsConn, error)
}

// wsServer is an echo server of one library. It agrees to the subprotocol [wsProtocol] and to
// permessage-deflate. What it does beside echoing, the query's "do" says; see [serveScript].
type wsServer struct {
	address string // host:port
	ends    *wsEnds
}

const wsProtocol = "echo.v2"

// wsEnds are the ends of connections as the servers saw them, by the id in the query.
type wsEnds struct {
	mu   sync.Mutex
	byID map[string]chan closed
}

func newWSEnds() *wsEnds { return &wsEnds{byID: map[string]chan closed{}} }

func (e *wsEnds) of(id string) chan closed {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.byID[id]
	if c == nil {
		c = make(chan closed, 1)
		e.byID[id] = c
	}
	return c
}

// serveWebSocket is what the servers written in Go do with a connection; node/server.js does the
// same.
func serveWebSocket(c wsConn, query url.Values, ends *wsEnds) {
	var end *closed
	if err := serveScript(c, query.Get("do")); !errors.As(err, &end) {
		end = &closed{Code: abnormal, Reason: fmt.Sprint(err)}
	}
	c.abort() // both sides have closed, or one never will
	ends.of(query.Get("id")) <- *end
}

func serveScript(c wsConn, do string) error {
	switch do {
	case "greet":
		for _, m := range wsGreetings {
			if err := c.send(text, []byte(m)); err != nil {
				return err
			}
		}
	case "ping":
		if err := c.ping(); err != nil {
			return err
		}
		if err := c.send(text, []byte("pong")); err != nil {
			return err
		}
	case "close", "abort":
		if _, _, err := c.receive(); err != nil {
			return err
		}
		if do == "abort" {
			return errors.New("aborted by the server itself")
		}
		if err := c.close(4001, "served"); err != nil {
			return err
		}
		return &closed{Code: 4001, Reason: "served"}
	}
	for {
		k, data, err := c.receive()
		if err != nil {
			return err
		}
		if err := c.send(k, data); err != nil {
			return err
		}
	}
}

var wsGreetings = []string{"one", "two", "three"}

// wsCase is what happens on one connection.
type wsCase struct {
	name  string
	do    string
	offer wsOffer
	run   func(c wsConn) error
	end   *closed // how it ends for the server; nil: not looked at
}

var wsCases = []wsCase{
	{name: "text", run: func(c wsConn) error {
		for _, m := range []string{"hello", "", "grüße, 世界"} {
			if err := echoed(c, text, []byte(m), c.send); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "binary", run: func(c wsConn) error {
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536} { // where the length's encoding changes
			if err := echoed(c, binary, noise(size), c.send); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "one MiB", run: func(c wsConn) error {
		if err := echoed(c, binary, noise(1<<20), c.send); err != nil {
			return err
		}
		return echoed(c, text, bytes.Repeat([]byte("0123456789abcdef"), 1<<16), c.send)
	}},
	{name: "fragments", run: func(c wsConn) error {
		inParts := func(k kind, data []byte) error {
			n := len(data) / 4
			return c.sendFragments(k, [][]byte{data[:n], data[n : 2*n], data[2*n : 3*n], data[3*n:]})
		}
		if err := echoed(c, text, bytes.Repeat([]byte("part "), 4000), inParts); err != nil {
			return err
		}
		return echoed(c, binary, noise(100_000), inParts)
	}},
	{name: "ping of the client", run: func(c wsConn) error {
		for range 3 {
			if err := c.ping(); err != nil {
				return err
			}
		}
		return echoed(c, text, []byte("after the pings"), c.send)
	}},
	{name: "ping of the server", do: "ping", run: func(c wsConn) error {
		if err := received(c, text, []byte("pong")); err != nil {
			return err
		}
		return echoed(c, text, []byte("after the ping"), c.send)
	}},
	{name: "the server speaks first", do: "greet", run: func(c wsConn) error {
		for _, m := range wsGreetings {
			if err := received(c, text, []byte(m)); err != nil {
				return err
			}
		}
		return echoed(c, text, []byte("and now the client"), c.send)
	}},
	{name: "deflate", offer: wsOffer{Deflate: true}, run: func(c wsConn) error {
		if !c.deflated() {
			return errors.New("permessage-deflate was offered and not agreed on")
		}
		for range 3 {
			if err := echoed(c, text, bytes.Repeat([]byte("compress me "), 10_000), c.send); err != nil {
				return err
			}
		}
		return echoed(c, binary, noise(100_000), c.send)
	}},
	{name: "no deflate", run: func(c wsConn) error {
		if c.deflated() {
			return errors.New("permessage-deflate was agreed on and not offered")
		}
		return nil
	}},
	{name: "subprotocol", offer: wsOffer{Protocols: []string{"echo.v1", wsProtocol}}, run: func(c wsConn) error {
		if got := c.protocol(); got != wsProtocol {
			return fmt.Errorf("agreed on the subprotocol %q, want %q", got, wsProtocol)
		}
		return nil
	}},
	{name: "the client closes", run: func(c wsConn) error {
		if err := echoed(c, text, []byte("before the end"), c.send); err != nil {
			return err
		}
		return c.close(4002, "enough")
	}, end: &closed{4002, "enough"}},
	{name: "the server closes", do: "close", run: func(c wsConn) error {
		if err := c.send(text, []byte("please")); err != nil {
			return err
		}
		return ended(c, 4001, "served")
	}, end: &closed{Code: 4001}}, // a client may response without the reason
	{name: "the client breaks off", run: func(c wsConn) error {
		if err := echoed(c, text, []byte("before the end"), c.send); err != nil {
			return err
		}
		c.abort()
		return nil
	}, end: &closed{Code: abnormal}},
	{name: "the server breaks off", do: "abort", run: func(c wsConn) error {
		if err := c.send(text, []byte("please")); err != nil {
			return err
		}
		return ended(c, abnormal, "")
	}},
}

// noise is bytes that do not compress.
func noise(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func echoed(c wsConn, k kind, data []byte, send func(kind, []byte) error) error {
	if err := send(k, data); err != nil {
		return fmt.Errorf("sending %d bytes of %s: %w", len(data), k, err)
	}
	return received(c, k, data)
}

func received(c wsConn, k kind, want []byte) error {
	gotKind, got, err := c.receive()
	switch {
	case err != nil:
		return fmt.Errorf("receiving %d bytes of %s: %w", len(want), k, err)
	case gotKind != k || !bytes.Equal(got, want):
		return fmt.Errorf("received %d bytes of %s, want these %d of %s", len(got), gotKind, len(want), k)
	}
	return nil
}

func ended(c wsConn, code int, reason string) error {
	_, data, err := c.receive()
	var end *closed
	if !errors.As(err, &end) {
		return fmt.Errorf("received %d bytes and error %v, want the end with %d", len(data), err, code)
	}
	if end.Code != code || (code != abnormal && end.Reason != reason) {
		return fmt.Errorf("%w, want %d %q", end, code, reason)
	}
	return nil
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	servers := map[string]*wsServer{"coder": startCoderServer(t), "gorilla": startGorillaServer(t),
		"node": startNodeServer(t)}
	clients := map[string]wsClient{"coder": newCoderClient(t), "gorilla": newGorillaClient(t),
		"node": startNodeClient(t)}
	var services, routes strings.Builder
	for name, s := range servers {
		fmt.Fprintf(&services, "  %s: {endpoints: [\"http://%s\"], timeout: 60s}\n", name, s.address)
		fmt.Fprintf(&routes, "  - {name: %s, match: {path: /%s/**}, service: %s}\n", name, name, name)
	}
	g := startGateway(t, "services:\n"+services.String()+"routes:\n"+routes.String())
	for client, c := range clients {
		for server, s := range servers {
			for way, base := range map[string]string{"direct": "ws://" + s.address, "cleartext": "ws://" + g.http,
				"tls": "wss://" + g.https} {
				t.Run(fmt.Sprintf("%s/%s to %s", way, client, server), func(t *testing.T) {
					t.Parallel()
					for _, wc := range wsCases {
						t.Run(wc.name, func(t *testing.T) { runWSCase(t, wc, c, s, base+"/"+server+"/echo") })
					}
				})
			}
		}
	}
}

func runWSCase(t *testing.T, wc wsCase, client wsClient, server *wsServer, address string) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	id := t.Name()
	c, err := client.dial(ctx, address+"?"+url.Values{"do": {wc.do}, "id": {id}}.Encode(), wc.offer)
	if err != nil {
		t.Fatal("connecting:", err)
	}
	defer c.abort()
	if err := wc.run(c); err != nil {
		t.Fatal(err)
	}
	if wc.end == nil {
		return
	}
	c.abort() // a server waits for its client to close the connection, and not every library does by itself
	select {
	case end := <-server.ends.of(id):
		if end.Code != wc.end.Code || (wc.end.Reason != "" && end.Reason != wc.end.Reason) {
			t.Errorf("for the server it %v, want %d %q", &end, wc.end.Code, wc.end.Reason)
		}
	case <-time.After(limit):
		t.Error("the server never saw the end")
	}
}
