package upstream

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// An endpoint such as h2c://grpc has a Host without a port.
func TestHTTP2EndpointWithoutPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		srv.Serve(l)
	}()
	defer func() { srv.Close(); <-ended }()
	svc := service(t, Settings{Endpoints: []config.Endpoint{
		{Network: "tcp", Address: l.Addr().String(), Host: "grpc", HTTP2: true},
	}})
	r, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
	if got := read(t, r, err); got.status != 200 {
		t.Errorf("got %+v", got)
	}
}
