package measure

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	h2Connections = 8
	h2Streams     = 8 // on each connection
)

// h2load is a closed loop over HTTP/2: cleartext with prior knowledge, or with TLS.
type h2load struct {
	origin     string // scheme and address
	host       string // empty: the address
	grpc       bool
	transports []*http.Transport // one a connection
}

func newH2Load(address string, p Protocol) *h2load {
	l := &h2load{origin: "http://" + address, grpc: p == GRPC}
	if p == HTTP2TLS { // a host that the certificate does not name is refused with 421
		l.origin, l.host = "https://"+address, benchHost
	}
	for range h2Connections {
		t := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true, Protocols: new(http.Protocols)}
		if p == HTTP2TLS { // as in dialTLS nobody is verified; nothing but h2 is offered
			t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: benchHost}
			t.Protocols.SetHTTP2(true)
		} else {
			t.Protocols.SetUnencryptedHTTP2(true)
		}
		l.transports = append(l.transports, t)
	}
	return l
}

func (l *h2load) Close() {
	for _, t := range l.transports {
		t.CloseIdleConnections()
	}
}

// Closed drives all streams for so long; each asks once at least.
func (l *h2load) Closed(ctx context.Context, d time.Duration) (Tally, error) {
	start := time.Now()
	end := start.Add(d)
	tallies := make([]Tally, h2Connections*h2Streams)
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() {
			t := l.transports[i%h2Connections]
			for first := true; (first || time.Now().Before(end)) && ctx.Err() == nil; first = false {
				if status, err := l.once(ctx, t); err != nil {
					tallies[i].failed(err)
				} else {
					tallies[i].answered(status)
				}
			}
		})
	}
	wg.Wait()
	var sum Tally
	for _, t := range tallies {
		sum.add(t)
	}
	sum.Elapsed = time.Since(start)
	return sum, ctx.Err()
}

// grpcMessage is a frame of gRPC over HTTP/2: not compressed, 64 bytes.
var grpcMessage = append([]byte{0, 0, 0, 0, 64}, bytes.Repeat([]byte{7}, 64)...)

// once makes one exchange and reads it whole.
func (l *h2load) once(ctx context.Context, t *http.Transport) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, responseLimit)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if l.grpc {
		method, body = http.MethodPost, bytes.NewReader(grpcMessage)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.origin+"/bench.Echo/Unary", body)
	if err != nil {
		return 0, err
	}
	req.Host = l.host
	if l.grpc {
		req.Header["Content-Type"] = []string{"application/grpc"}
		req.Header["Te"] = []string{"trailers"}
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if got := resp.Trailer.Get("Grpc-Status"); l.grpc && resp.StatusCode == http.StatusOK && got != "0" {
		return 0, fmt.Errorf("the trailer grpc-status is %q, want 0", got)
	}
	return resp.StatusCode, nil
}
