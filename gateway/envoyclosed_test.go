package gateway

import (
	"fmt"
	"io"
	"strings"
	"testing"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"
)

// What an Envoy does not do as it has to ends in an error: after a stream that ended well Envoy would send
// the request on unclaimed, since the processor then has nothing more to say.
func TestEnvoyFailsClosed(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, strings.Replace(envoyHead, "listen: {", "listen: {idleTimeout: 200ms, ", 1)+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	body := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: []byte("x"), EndOfStream: true}}}
	trailer := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseTrailers{
		ResponseTrailers: &extproc.HttpTrailers{}}}
	for name, messages := range map[string][]*extproc.ProcessingRequest{
		"no-body": nil, "trailer-for-body": {trailer}, "two-bodies": {body, body},
	} {
		stream, err := e.proxy.client.Process(metadata.AppendToOutgoingContext(t.Context(),
			"x-sluice-peer", "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		head := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extproc.HttpHeaders{Headers: headerMap(post("/", "", key(name)).fields)}}}
		for _, m := range append([]*extproc.ProcessingRequest{head}, messages...) {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			t.Errorf("%s: the stream ends well, and Envoy sends the request on", name)
		}
	}
}

// What waits in memory is given back to the byte, also of a body whose length was not announced.
func TestEnvoyGivesBack(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	for i := range 5 {
		if r := e.post("/", "x", key(fmt.Sprint(i))); r.status != 200 {
			t.Fatalf("%+v", r)
		}
	}
	until(t, func() bool { return e.metric("sluice_requests_in_flight") <= 0 })
	until(t, func() bool { return e.metric("sluice_buffered_bytes") == 0 })
}
