package participant

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
)

type txKey struct{}

// Tx returns the transaction of a request that came through [Guard.Middleware]; nil for one that
// needs none. The handler neither commits nor rolls it back.
func Tx(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(txKey{}).(*sql.Tx)
	return tx
}

// Middleware makes what next does in [Tx] take effect once: it is [Guard.Handler] for handlers of
// net/http.
//
// The response of next is buffered and sent after the commit. By its status the transaction is
// committed (2xx, 3xx) or rolled back (any other one), see [Guard.Do], which also says that next
// may run more than once. A panic rolls back and goes on. A response longer than ResponseBytesMax
// is not sent: all is rolled back, and the client gets 500. For the same reason there is no
// flushing and no hijacking: the writer has neither method, and informational responses are not
// sent.
//
// A request with neither key nor branch is served in a plain transaction. One with a method that is
// safe (GET, HEAD, OPTIONS, TRACE) and that is no branch call is passed to next as it is, without a
// transaction and a buffer, also with a key: a probe names the key of the request that it asks
// about, and must not take its row.
func (g *Guard) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, isBranch, _ := FromRequest(r); !isBranch && safe(r.Method) {
			next.ServeHTTP(w, r)
			return
		}
		g.serve(w, r, func(tx *sql.Tx, r *http.Request) (Response, error) {
			b := buffer{header: http.Header{}, bytesMax: g.responseBytesMax()}
			next.ServeHTTP(&b, r.WithContext(context.WithValue(r.Context(), txKey{}, tx)))
			return b.response()
		})
	})
}

func safe(method string) bool { // RFC 9110 §9.2.1
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// buffer is a ResponseWriter that buffers the response.
type buffer struct {
	header   http.Header // as the handler sees it
	sent     http.Header // as it was when the head was written; nil before
	status   int
	body     bytes.Buffer
	bytesMax int64
	tooLong  bool
}

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(status int) {
	if b.sent != nil || status < 200 {
		return
	}
	b.status, b.sent = status, b.header.Clone()
}

func (b *buffer) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	if int64(b.body.Len()+len(p)) > b.bytesMax {
		b.tooLong = true
		return 0, fmt.Errorf("participant: the response's body is longer than %d bytes", b.bytesMax)
	}
	return b.body.Write(p)
}

// response fails for one that is too long, so that nothing of it is kept.
func (b *buffer) response() (Response, error) {
	b.WriteHeader(http.StatusOK)
	if b.tooLong {
		return Response{}, fmt.Errorf("participant: the response's body is longer than %d bytes", b.bytesMax)
	}
	if b.sent.Get("Content-Type") == "" && b.body.Len() > 0 { // as net/http does, so that a replay has the same
		b.sent.Set("Content-Type", http.DetectContentType(b.body.Bytes()))
	}
	b.sent.Del("Content-Length") // of the body as it is sent, not as the handler announced it
	return Response{Status: b.status, Header: b.sent, Body: b.body.Bytes()}, nil
}
