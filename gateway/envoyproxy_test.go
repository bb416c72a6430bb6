package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/control/source"
)

// envoyProxy stands for an Envoy: it carries the requests of its clients to a service and does with each what the
// processor says, as Envoy 1.40 does (measured). It buffers as much of a response as bufferMax.
type envoyProxy struct {
	client    extproc.ExternalProcessorClient
	service   string            // host:port
	elsewhere map[string]string // by path
	peer      string            // of its clients' connections
	bufferMax int
	metadata  []string // sent with each stream, in pairs
	bare      bool     // it sends no attributes
	deaf      bool     // it lets no mode be overridden

	messages atomic.Int64 // sent to the processor
}

// proxied is a request of a client as Envoy has it: names in lower case, those of pseudo-header fields first.
type proxied struct {
	fields  []field
	body    []byte
	trailer []field
}

// exchange carries one request; the error says that the client gets no response.
func (p *envoyProxy) exchange(ctx context.Context, in proxied) (got, error) {
	out := append(slices.Clone(p.metadata), "x-sluice-peer", p.peer)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, metadata.Pairs(out...)))
	defer cancel() // a client that leaves ends the stream
	stream, err := p.client.Process(ctx)
	if err != nil {
		return got{}, err
	}
	s := &proxyStream{proxy: p, stream: stream, fields: slices.Clone(in.fields), trailer: slices.Clone(in.trailer),
		mode: &modev3.ProcessingMode{}}
	if r, done, err := s.request(in); done || err != nil {
		return r, err
	}
	return s.response(ctx, in.body)
}

// proxyStream is one request under way.
type proxyStream struct {
	proxy   *envoyProxy
	stream  extproc.ExternalProcessor_ProcessClient
	mode    *modev3.ProcessingMode
	closed  bool // by the processor, which is not interested in more
	fields  []field
	trailer []field
}

// request runs the phases before the request is sent on; done: there is a response already.
func (s *proxyStream) request(in proxied) (r got, done bool, err error) {
	ends := len(in.body) == 0 && len(in.trailer) == 0
	head := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: headerMap(in.fields), EndOfStream: ends}}}
	if !s.proxy.bare {
		head.Attributes = attributes(map[string]any{"request.protocol": "HTTP/1.1"})
	}
	m, err := s.ask(head)
	if r, done := immediate(m); done || err != nil {
		return r, done, err
	}
	s.fields = mutate(s.fields, m.GetRequestHeaders().GetResponse().GetHeaderMutation())
	if !ends && s.mode.RequestBodyMode == modev3.ProcessingMode_BUFFERED {
		m, err = s.ask(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
			RequestBody: &extproc.HttpBody{Body: in.body, EndOfStream: len(in.trailer) == 0}}})
		if r, done := immediate(m); done || err != nil {
			return r, done, err
		}
		s.fields = mutate(s.fields, m.GetRequestBody().GetResponse().GetHeaderMutation())
	}
	if len(in.trailer) > 0 && s.mode.RequestTrailerMode == modev3.ProcessingMode_SEND {
		m, err = s.ask(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestTrailers{
			RequestTrailers: &extproc.HttpTrailers{Trailers: headerMap(in.trailer)}}})
		if r, done := immediate(m); done || err != nil {
			return r, done, err
		}
		s.trailer = mutate(s.trailer, m.GetRequestTrailers().GetHeaderMutation())
	}
	return got{}, false, nil
}

// response sends the request on and runs the phases behind it.
func (s *proxyStream) response(ctx context.Context, body []byte) (got, error) {
	status, fields, responseBody, details := s.call(ctx, body)
	if ctx.Err() != nil {
		return got{}, ctx.Err()
	}
	ends := len(responseBody) == 0
	if s.mode.ResponseHeaderMode != modev3.ProcessingMode_SKIP {
		head := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
			ResponseHeaders: &extproc.HttpHeaders{EndOfStream: ends,
				Headers: headerMap(append([]field{{":status", strconv.Itoa(status)}}, fields...))}}}
		if !s.proxy.bare {
			head.Attributes = attributes(details)
		}
		m, err := s.ask(head)
		if r, done := immediate(m); done || err != nil {
			return r, err
		}
		fields = mutate(fields, m.GetResponseHeaders().GetResponse().GetHeaderMutation())
	}
	if !ends && s.mode.ResponseBodyMode == modev3.ProcessingMode_BUFFERED_PARTIAL {
		chunk := responseBody[:min(len(responseBody), s.proxy.bufferMax)]
		m, err := s.ask(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: chunk, EndOfStream: len(chunk) == len(responseBody)}}})
		if r, done := immediate(m); done || err != nil {
			return r, err
		}
		fields = mutate(fields, m.GetResponseBody().GetResponse().GetHeaderMutation())
	}
	r := got{status, http.Header{}, string(responseBody)}
	for _, f := range fields {
		r.header.Add(f.name, f.value)
	}
	return r, nil
}

// ask sends a message and returns the reply to it; an empty one where the processor has left.
func (s *proxyStream) ask(m *extproc.ProcessingRequest) (*extproc.ProcessingResponse, error) {
	if s.closed {
		return &extproc.ProcessingResponse{}, nil
	}
	s.proxy.messages.Add(1)
	if err := s.stream.Send(m); err != nil && err != io.EOF {
		return nil, err
	}
	reply, err := s.stream.Recv()
	if err == io.EOF {
		s.closed = true
		return &extproc.ProcessingResponse{}, nil
	}
	if err == nil && reply.ModeOverride != nil && !s.proxy.deaf {
		s.mode = reply.ModeOverride
	}
	return reply, err
}

// call sends the request to the service. details are the attributes of the response.
func (s *proxyStream) call(ctx context.Context, body []byte) (int, []field, []byte, map[string]any) {
	req := &http.Request{Header: http.Header{"User-Agent": nil}, Trailer: http.Header{},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
	for _, f := range s.fields {
		switch f.name {
		case ":method":
			req.Method = f.value
		case ":authority":
			req.Host = f.value
		case ":path":
			to := s.proxy.service
			if other, ok := s.proxy.elsewhere[f.value]; ok {
				to = other
			}
			req.URL = &url.URL{Scheme: "http", Host: to, Opaque: f.value}
		case ":scheme", "host", "content-length", "connection", "te", "expect", "transfer-encoding", "upgrade",
			"trailer":
		default:
			req.Header.Add(f.name, f.value)
		}
	}
	if len(body) == 0 && len(s.trailer) == 0 {
		req.Body = nil
	}
	if len(s.trailer) > 0 {
		req.ContentLength = -1
		for _, f := range s.trailer {
			req.Trailer.Add(f.name, f.value)
		}
	}
	own := func(status int, why string, flags float64) (int, []field, []byte, map[string]any) {
		return status, []field{{"content-type", "text/plain"}}, []byte("upstream connect error"), map[string]any{
			"response.code_details": why, "response.flags": flags, "upstream.request_attempt_count": 1.0}
	}
	resp, err := client.Transport.RoundTrip(req.WithContext(ctx))
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "dial" {
		return own(503, "upstream_reset_before_response_started{remote_connection_failure}", 1<<5)
	}
	if err != nil {
		return own(503, "upstream_reset_before_response_started{connection_termination}", 1<<6)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	var fields []field
	for name, values := range resp.Header {
		for _, v := range values {
			fields = append(fields, field{strings.ToLower(name), v})
		}
	}
	return resp.StatusCode, fields, b, map[string]any{"response.code_details": "via_upstream", "response.flags": 0.0,
		"upstream.request_attempt_count": 1.0}
}

func attributes(of map[string]any) map[string]*structpb.Struct {
	s, err := structpb.NewStruct(of)
	if err != nil {
		panic(err)
	}
	return map[string]*structpb.Struct{"envoy.filters.http.ext_proc": s}
}

func headerMap(fields []field) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for _, f := range fields {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: strings.ToLower(f.name), RawValue: []byte(f.value)})
	}
	return m
}

// mutate applies a mutation as Envoy does: what is removed first, then what is set.
func mutate(fields []field, m *extproc.HeaderMutation) []field {
	for _, name := range m.GetRemoveHeaders() {
		fields = slices.DeleteFunc(fields, func(f field) bool { return f.name == name })
	}
	for _, o := range m.GetSetHeaders() {
		name := o.Header.Key
		if o.AppendAction == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			fields = slices.DeleteFunc(fields, func(f field) bool { return f.name == name })
		}
		fields = append(fields, field{name, string(o.Header.RawValue)})
	}
	return fields
}

// immediate returns the response of the processor, where it has one.
func immediate(m *extproc.ProcessingResponse) (got, bool) {
	i := m.GetImmediateResponse()
	if i == nil {
		return got{}, false
	}
	r := got{int(i.Status.Code), http.Header{}, string(i.Body)}
	for _, f := range mutate(nil, i.Headers) {
		r.header.Add(f.name, f.value)
	}
	if len(i.Body) > 0 && r.header.Get("Content-Type") == "" {
		r.header.Set("Content-Type", "text/plain")
	}
	return r, true
}

// ServeHTTP carries a request of HTTP.
func (p *envoyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	in := proxied{body: body, fields: []field{{":method", r.Method}, {":scheme", "http"}, {":authority", r.Host},
		{":path", r.RequestURI}}}
	if len(body) > 0 {
		in.fields = append(in.fields, field{"content-length", strconv.Itoa(len(body))})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			if !strings.EqualFold(name, "Content-Length") {
				in.fields = append(in.fields, field{strings.ToLower(name), v})
			}
		}
	}
	for name, values := range r.Trailer {
		in.trailer = append(in.trailer, field{strings.ToLower(name), values[0]})
	}
	got, err := p.exchange(r.Context(), in)
	if err != nil {
		w.WriteHeader(500) // as an Envoy whose failure_mode_allow is not set
		fmt.Fprint(w, "the processor failed: ", err)
		return
	}
	w.Header()["Content-Type"] = nil // none is guessed
	maps.Copy(w.Header(), got.header)
	w.WriteHeader(got.status)
	io.WriteString(w, got.body)
}

// envoyRunning is `sluice envoy` in this process, with what stands for an Envoy before it.
type envoyRunning struct {
	*running
	proxy *envoyProxy
}

// startEnvoy starts both. Requests go through the proxy to the service.
func startEnvoy(t *testing.T, text, service string) *envoyRunning {
	t.Helper()
	g := &running{t: t, file: filepath.Join(t.TempDir(), "sluice.yaml"), reload: make(chan struct{}),
		logs: &lockedBuffer{}}
	g.configure(text)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- RunEnvoy(ctx, Options{Source: &source.File{Path: g.file, Reload: g.reload}, DrainLimit: waitLimit,
			OnReady: func(a Addresses) { ready <- a }, Logger: slog.New(slog.NewTextHandler(g.logs, nil))})
	}()
	select {
	case g.at = <-ready:
	case err := <-ended:
		t.Fatalf("it did not come up: %v", err)
	case <-time.After(waitLimit):
		t.Fatal("it did not come up")
	}
	g.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if t.Failed() {
			t.Log(g.logs.String())
		}
	})
	conn, err := grpc.NewClient("passthrough:///"+g.at.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &envoyProxy{client: extproc.NewExternalProcessorClient(conn), service: strings.TrimPrefix(service, "http://"),
		peer: "127.0.0.1", bufferMax: 1 << 20}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	g.at.HTTP = s.Listener.Addr().String()
	return &envoyRunning{g, p}
}
