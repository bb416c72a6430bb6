package interop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// coderConn is a connection of github.com/coder/websocket.
type coderConn struct {
	*inbox
	ctx     context.Context
	c       *websocket.Conn
	deflate bool
}

func newCoderConn(ctx context.Context, c *websocket.Conn, extensions string) *coderConn {
	c.SetReadLimit(-1)
	read := func() message {
		k, data, err := c.Read(ctx)
		var end websocket.CloseError
		switch {
		case errors.As(err, &end):
			return message{err: &closed{int(end.Code), end.Reason}}
		case err != nil:
			return message{err: &closed{abnormal, err.Error()}}
		case k == websocket.MessageText:
			return message{kind: text, data: data}
		}
		return message{kind: binary, data: data}
	}
	return &coderConn{newInbox(read), ctx, c, strings.Contains(extensions, "permessage-deflate")}
}

func coderKind(k kind) websocket.MessageType {
	if k == text {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

func (c *coderConn) protocol() string               { return c.c.Subprotocol() }
func (c *coderConn) deflated() bool                 { return c.deflate }
func (c *coderConn) send(k kind, data []byte) error { return c.c.Write(c.ctx, coderKind(k), data) }
func (c *coderConn) ping() error                    { return c.c.Ping(c.ctx) }

func (c *coderConn) sendFragments(k kind, parts [][]byte) error {
	w, err := c.c.Writer(c.ctx, coderKind(k))
	if err != nil {
		return err
	}
	for _, p := range parts { // each becomes a frame
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c *coderConn) close(code int, reason string) error {
	defer c.end()
	return c.c.Close(websocket.StatusCode(code), reason)
}

func (c *coderConn) abort() {
	c.end()
	_ = c.c.CloseNow() // or it is closed already
}

type coderClient struct{ http *http.Client }

func newCoderClient(t *testing.T) wsClient {
	return coderClient{&http.Client{Transport: transport(t, "http/1.1")}}
}

func (cl coderClient) dial(ctx context.Context, url string, offer wsOffer) (wsConn, error) {
	options := &websocket.DialOptions{HTTPClient: cl.http, Subprotocols: offer.Protocols,
		CompressionMode: websocket.CompressionDisabled}
	if offer.Deflate {
		options.CompressionMode = websocket.CompressionContextTakeover
	}
	c, resp, err := websocket.Dial(ctx, url, options)
	if err != nil {
		return nil, err
	}
	return newCoderConn(ctx, c, resp.Header.Get("Sec-WebSocket-Extensions")), nil
}

func startCoderServer(t *testing.T) *wsServer {
	s := &wsServer{ends: newWSEnds()}
	s.address = startService(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{wsProtocol}, CompressionMode: websocket.CompressionContextTakeover,
		})
		if err != nil {
			_, _ = io.WriteString(w, err.Error()) // Accept has answered; the client shows what
			return
		}
		serveWebSocket(newCoderConn(context.Background(), c, ""), r.URL.Query(), s.ends)
	})
	return s
}
