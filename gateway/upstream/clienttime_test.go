package upstream

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// rests is a body whose end waits until the service has its beginning, and a while longer.
type rests struct {
	io.Reader
	here   func() bool
	rested time.Duration
}

func (r *rests) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		began := time.Now()
		for !r.here() || time.Since(began) < 20*time.Millisecond {
			time.Sleep(time.Millisecond)
		}
		r.rested = time.Since(began)
	}
	return n, err
}

// A response tells for how long its client was waited for.
func TestClientTimeOfAResponse(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		e := newMoody(t, http2)
		h := newHedging(t, Settings{}, e)
		body := &rests{Reader: strings.NewReader("body"), here: func() bool { return h.inUse() == 1 }}
		began := time.Now()
		r, err := h.Send(context.Background(), exchange("POST"), &message.Message{Stream: stream{body}, Length: -1})
		took := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.ClientTime(); got < body.rested || got > took {
			t.Errorf("%s: it is %v of %v, and the client rested for %v", name, got, took, body.rested)
		}
		r.Close()
		if r, err = h.Send(context.Background(), exchange("POST"), &message.Message{Bytes: []byte("body")}); err != nil {
			t.Fatal(err)
		}
		if got := r.ClientTime(); got != 0 {
			t.Errorf("%s: it is %v of a body that was there", name, got)
		}
		r.Close()
	}
}
