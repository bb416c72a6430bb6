package envoy

import (
	"bytes"
	"math/rand/v2"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/filters"
)

// The replies are what the protobuf library makes of the same messages.
func TestEncode(t *testing.T) {
	t.Parallel()
	mutation := appendRemoved(nil, "sluice_op")
	mutation = appendSet(mutation, "Idempotency-Key", "k", false)
	mutation = appendSet(mutation, "x-list", string(bytes.Repeat([]byte("v"), 300)), true)
	want := &extproc.HeaderMutation{RemoveHeaders: []string{"sluice_op"}, SetHeaders: []*corev3.HeaderValueOption{
		{Header: &corev3.HeaderValue{Key: "idempotency-key", RawValue: []byte("k")},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
		{Header: &corev3.HeaderValue{Key: "x-list", RawValue: bytes.Repeat([]byte("v"), 300)}}}}
	common := &extproc.CommonResponse{HeaderMutation: want}
	for name, c := range map[string]struct {
		wire []byte
		want *extproc.ProcessingResponse
	}{
		"a request's head": {appendReply(nil, requestHead, mutation), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestHeaders{
				RequestHeaders: &extproc.HeadersResponse{Response: common}}}},
		"a request's head, and the cluster is chosen again": {
			appendReplyOver(nil, requestHead, mutation, reroute), &extproc.ProcessingResponse{
				Response: &extproc.ProcessingResponse_RequestHeaders{
					RequestHeaders: &extproc.HeadersResponse{Response: &extproc.CommonResponse{
						HeaderMutation: want, ClearRouteCache: true}}}}},
		"nothing but that": {appendReplyOver(nil, requestBody, nil, reroute), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestBody{RequestBody: &extproc.BodyResponse{
				Response: &extproc.CommonResponse{ClearRouteCache: true}}}}},
		"a request's body": {appendReply(nil, requestBody, mutation), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestBody{RequestBody: &extproc.BodyResponse{Response: common}}}},
		"a response's head": {appendReply(nil, responseHead, mutation), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_ResponseHeaders{
				ResponseHeaders: &extproc.HeadersResponse{Response: common}}}},
		"a response's body": {appendReply(nil, responseBody, mutation), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_ResponseBody{ResponseBody: &extproc.BodyResponse{Response: common}}}},
		"a trailer": {appendReply(nil, requestTrailer, mutation), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestTrailers{RequestTrailers: &extproc.TrailersResponse{
				HeaderMutation: want}}}},
		"nothing to change": {appendReply(nil, responseTrailer, nil), &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extproc.TrailersResponse{}}}},
		"the request's body is asked for": {askForBody, &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: &extproc.HeadersResponse{}},
			ModeOverride: &modev3.ProcessingMode{
				RequestHeaderMode: modev3.ProcessingMode_SEND, ResponseHeaderMode: modev3.ProcessingMode_SEND,
				RequestBodyMode: modev3.ProcessingMode_BUFFERED, RequestTrailerMode: modev3.ProcessingMode_SEND,
				ResponseTrailerMode: modev3.ProcessingMode_SKIP}}},
		"the response's body is asked for": {askForResponseBody, &extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extproc.HeadersResponse{}},
			ModeOverride: &modev3.ProcessingMode{
				RequestHeaderMode: modev3.ProcessingMode_SEND, ResponseHeaderMode: modev3.ProcessingMode_SEND,
				RequestTrailerMode: modev3.ProcessingMode_SEND, ResponseTrailerMode: modev3.ProcessingMode_SEND,
				ResponseBodyMode: modev3.ProcessingMode_BUFFERED_PARTIAL}}},
		"in place of the service": {appendImmediate(nil, 409, mutation, []byte("no"), 10, "sluice_no"),
			&extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ImmediateResponse{
				ImmediateResponse: &extproc.ImmediateResponse{Status: &typev3.HttpStatus{Code: 409}, Headers: want,
					Body: []byte("no"), GrpcStatus: &extproc.GrpcStatus{Status: 10}, Details: "sluice_no"}}}},
	} {
		got := new(extproc.ProcessingResponse)
		if err := proto.Unmarshal(c.wire, got); err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, prototext.Format(got), prototext.Format(c.want))
		}
	}
}

// request returns messages of every kind.
func messages(r *rand.Rand) []*extproc.ProcessingRequest {
	text := func() []byte {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b
	}
	head := &corev3.HeaderMap{}
	for range r.IntN(20) {
		head.Headers = append(head.Headers, &corev3.HeaderValue{Key: "x-a", RawValue: text()},
			&corev3.HeaderValue{Key: "x-b", Value: "b"})
	}
	s, err := structpb.NewStruct(map[string]any{"source.address": "192.0.2.1:80", "request.protocol": "HTTP/2",
		"response.code_details": "via_upstream", "response.flags": 4.0, "upstream.request_attempt_count": 2.0,
		"other": []any{1.0, nil, true}})
	if err != nil {
		panic(err)
	}
	return []*extproc.ProcessingRequest{
		{Request: &extproc.ProcessingRequest_RequestHeaders{RequestHeaders: &extproc.HttpHeaders{Headers: head,
			EndOfStream: true}}, Attributes: map[string]*structpb.Struct{"f": s}, MetadataContext: &corev3.Metadata{}},
		{Request: &extproc.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extproc.HttpHeaders{Headers: head}}},
		{Request: &extproc.ProcessingRequest_RequestBody{RequestBody: &extproc.HttpBody{Body: text(),
			EndOfStream: true}}},
		{Request: &extproc.ProcessingRequest_ResponseBody{ResponseBody: &extproc.HttpBody{Body: text()}},
			ProtocolConfig: &extproc.ProtocolConfiguration{RequestBodyMode: 2}},
		{Request: &extproc.ProcessingRequest_RequestTrailers{RequestTrailers: &extproc.HttpTrailers{Trailers: head}}},
		{Request: &extproc.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extproc.HttpTrailers{Trailers: head}}},
		{ObservabilityMode: true},
	}
}

// same reports whether a message reads as the protobuf library reads it.
func same(t *testing.T, m *incoming, want *extproc.ProcessingRequest) {
	t.Helper()
	var k kind
	var h *corev3.HeaderMap
	var body []byte
	ends := false
	switch r := want.Request.(type) {
	case *extproc.ProcessingRequest_RequestHeaders:
		k, h, ends = requestHead, r.RequestHeaders.GetHeaders(), r.RequestHeaders.GetEndOfStream()
	case *extproc.ProcessingRequest_ResponseHeaders:
		k, h, ends = responseHead, r.ResponseHeaders.GetHeaders(), r.ResponseHeaders.GetEndOfStream()
	case *extproc.ProcessingRequest_RequestBody:
		k, body, ends = requestBody, r.RequestBody.GetBody(), r.RequestBody.GetEndOfStream()
	case *extproc.ProcessingRequest_ResponseBody:
		k, body, ends = responseBody, r.ResponseBody.GetBody(), r.ResponseBody.GetEndOfStream()
	case *extproc.ProcessingRequest_RequestTrailers:
		k, h = requestTrailer, r.RequestTrailers.GetTrailers()
	case *extproc.ProcessingRequest_ResponseTrailers:
		k, h = responseTrailer, r.ResponseTrailers.GetTrailers()
	}
	if m.kind != k || m.ends != ends || !bytes.Equal(m.body, body) || len(m.fields) != len(h.GetHeaders()) {
		t.Fatalf("kind %d of %d, ends %v of %v, %d bytes of %d, %d fields of %d", m.kind, k, m.ends, ends, len(m.body),
			len(body), len(m.fields), len(h.GetHeaders()))
	}
	for i, f := range h.GetHeaders() {
		value := f.Value
		if len(f.RawValue) > 0 {
			value = string(f.RawValue)
		}
		if got := m.fields[i]; got != (filters.Field{Name: f.Key, Value: value}) {
			t.Fatalf("field %d: %q, want %q: %q", i, got, f.Key, value)
		}
	}
}

// What is read is what the protobuf library reads, also into memory that was used before.
func TestDecode(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	m := new(incoming)
	for range 200 {
		for _, want := range messages(r) {
			b, err := proto.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			cut := r.IntN(len(b) + 1)
			if err := m.read(mem.BufferSlice{mem.SliceBuffer(b[:cut]), mem.SliceBuffer(b[cut:])}); err != nil {
				t.Fatal(err)
			}
			same(t, m, want)
			if want.Attributes == nil {
				continue
			}
			if a := (attributes{"192.0.2.1:80", "HTTP/2", "via_upstream", 4, 2}); m.attributes != a {
				t.Fatalf("attributes %+v, want %+v", m.attributes, a)
			}
		}
	}
}

// FuzzDecode reads what nobody should send: without a panic, and nothing that the protobuf library refuses as a
// whole is read as something else where that one does not.
func FuzzDecode(f *testing.F) {
	for _, m := range messages(rand.New(rand.NewPCG(1, 1))) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x12, 0x02, 0x0a, 0x05})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(incoming)
		err := m.read(mem.BufferSlice{mem.SliceBuffer(b)})
		want := new(extproc.ProcessingRequest)
		if proto.Unmarshal(b, want) != nil {
			return // UTF-8 and enough of the types are checked there, which is nothing that is relied on here
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		if canonical, err := proto.Marshal(want); err == nil && bytes.Equal(canonical, b) {
			same(t, m, want)
		}
	})
}

func TestReadAllocatesNothing(t *testing.T) {
	b, err := proto.Marshal(messages(rand.New(rand.NewPCG(1, 1)))[0])
	if err != nil {
		t.Fatal(err)
	}
	m := new(incoming)
	data := mem.BufferSlice{mem.SliceBuffer(b)}
	if n := testing.AllocsPerRun(100, func() {
		if err := m.read(data); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}
