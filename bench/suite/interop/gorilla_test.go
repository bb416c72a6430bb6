package interop

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// gorillaConn is a connection of github.com/gorilla/websocket.
type gorillaConn struct {
	*inbox
	c       *websocket.Conn
	pongs   chan struct{}
	writing sync.Mutex // the library wants one writer; its reader writes pongs by WriteControl, which is apart
	deflate bool
}

// gorillaFrame is the longest frame of a message in fragments: the library writes one whenever its
// buffer is full.
const gorillaFrame = 4 << 10

func newGorillaConn(c *websocket.Conn, extensions string) *gorillaConn {
	g := &gorillaConn{c: c, pongs: make(chan struct{}, 16), deflate: strings.Contains(extensions, "permessage-deflate")}
	c.SetPongHandler(func(string) error {
		g.pongs <- struct{}{}
		return nil
	})
	g.inbox = newInbox(func() message {
		k, data, err := c.ReadMessage()
		var end *websocket.CloseError
		switch {
		case errors.As(err, &end) && end.Code != abnormal:
			return message{err: &closed{end.Code, end.Text}}
		case err != nil:
			return message{err: &closed{abnormal, err.Error()}}
		case k == websocket.TextMessage:
			return message{kind: text, data: data}
		}
		return message{kind: binary, data: data}
	})
	return g
}

func gorillaKind(k kind) int {
	if k == text {
		return websocket.TextMessage
	}
	return websocket.BinaryMessage
}

func (g *gorillaConn) protocol() string { return g.c.Subprotocol() }
func (g *gorillaConn) deflated() bool   { return g.deflate }

func (g *gorillaConn) send(k kind, data []byte) error {
	g.writing.Lock()
	defer g.writing.Unlock()
	return g.c.WriteMessage(gorillaKind(k), data)
}

func (g *gorillaConn) sendFragments(k kind, parts [][]byte) error {
	g.writing.Lock()
	defer g.writing.Unlock()
	w, err := g.c.NextWriter(gorillaKind(k))
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

func (g *gorillaConn) ping() error {
	if err := g.c.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(limit)); err != nil {
		return err
	}
	select {
	case <-g.pongs:
		return nil
	case <-time.After(limit):
		return errors.New("no pong")
	}
}

// close sends a close frame and reads until the other side's, which the library leaves to its
// caller.
func (g *gorillaConn) close(code int, reason string) error {
	if err := g.c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason),
		time.Now().Add(limit)); err != nil {
		return err
	}
	for {
		_, _, err := g.receive()
		var end *closed
		switch {
		case errors.As(err, &end) && end.Code == code:
			g.abort()
			return nil
		case err != nil:
			return err
		}
	}
}

func (g *gorillaConn) abort() {
	g.end()
	_ = g.c.Close() // or it is closed already
}

type gorillaClient struct{ t *testing.T }

func newGorillaClient(t *testing.T) wsClient { return gorillaClient{t} }

func (cl gorillaClient) dial(ctx context.Context, url string, offer wsOffer) (wsConn, error) {
	dialer := websocket.Dialer{
		TLSClientConfig: certificate(cl.t).clientTLS(), WriteBufferSize: gorillaFrame,
		Subprotocols: offer.Protocols, EnableCompression: offer.Deflate,
	}
	c, resp, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	return newGorillaConn(c, resp.Header.Get("Sec-WebSocket-Extensions")), nil
}

func startGorillaServer(t *testing.T) *wsServer {
	s := &wsServer{ends: newWSEnds()}
	upgrader := websocket.Upgrader{Subprotocols: []string{wsProtocol}, EnableCompression: true,
		WriteBufferSize: gorillaFrame}
	s.address = startService(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		serveWebSocket(newGorillaConn(c, ""), r.URL.Query(), s.ends)
	})
	return s
}
