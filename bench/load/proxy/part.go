package proxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// RunPart runs one of the processes that this program brings itself until ctx ends: a contender
// that is written in Go, or the upstream. The arguments are those that this package gives to
// itself: the part (relay, reverseproxy, reverseproxy-tls, upstream), the address to listen on, the admin address and
// the URL of what it leads to.
func RunPart(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("proxy: a part takes 4 arguments: name, address, admin address, target; got %d", len(args))
	}
	name, listen, admin := args[0], args[1], args[2]
	target, err := url.Parse(args[3])
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	switch name {
	case "relay":
		return runRelay(ctx, listen, target.Host)
	case "reverseproxy":
		go func() { _ = measure.Serve(ctx, admin, http.HandlerFunc(measure.ServeMallocs)) }()
		return measure.Serve(ctx, listen, newReverseProxy(target))
	case "reverseproxy-tls":
		go func() { _ = measure.Serve(ctx, admin, http.HandlerFunc(measure.ServeMallocs)) }()
		return measure.ServeTLS(ctx, listen, newReverseProxy(target))
	case "upstream":
		return measure.Serve(ctx, listen, http.HandlerFunc(measure.ServeUpstream))
	}
	return fmt.Errorf("proxy: part %q is none of relay, reverseproxy, reverseproxy-tls, upstream", name)
}

// newReverseProxy is what one gets from the standard library with some care: a pool of connections
// that is large enough, pooled buffers, no compression of its own.
func newReverseProxy(target *url.URL) http.Handler {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 20_000,
		IdleConnTimeout:     time.Hour,
		DisableCompression:  true,
		WriteBufferSize:     16 << 10,
		ReadBufferSize:      16 << 10,
		Protocols:           new(http.Protocols),
	}
	flush := time.Duration(0)
	if target.Scheme == "h2c" {
		transport.Protocols.SetUnencryptedHTTP2(true)
		flush = -1 // trailers and messages pass at once
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	to := &url.URL{Scheme: "http", Host: target.Host}
	return &httputil.ReverseProxy{
		Transport:     transport,
		BufferPool:    new(buffers),
		FlushInterval: flush,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
		},
	}
}

// buffers is a httputil.BufferPool.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// runRelay passes bytes on in both directions and looks at nothing: what any proxy in Go must pay
// for its reads and writes.
func runRelay(ctx context.Context, listen, target string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		client, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("proxy: %w", err)
		}
		go relayConn(client, target)
	}
}

func relayConn(client net.Conn, target string) {
	defer client.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		pump(up, client)
		up.Close() // ends the other direction
	}()
	pump(client, up)
}

// pump reads and writes, where io.Copy would splice: that has a price for small responses.
func pump(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
