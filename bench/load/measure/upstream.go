package measure

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime"
	"strings"
	texttemplate "text/template"
)

var upstreamTemplates = texttemplate.Must(texttemplate.ParseFS(templateFiles, "templates/*.tmpl"))

// Serve answers HTTP/1.1 and cleartext HTTP/2.
func Serve(ctx context.Context, address string, h http.Handler) error {
	return serve(ctx, address, h, nil)
}

// ServeTLS answers HTTP/1.1 and HTTP/2 with TLS, by a certificate that it makes.
func ServeTLS(ctx context.Context, address string, h http.Handler) error {
	certificate, key, err := NewCertificate()
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("measure: certificate: %w", err)
	}
	return serve(ctx, address, h, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
}

func serve(ctx context.Context, address string, h http.Handler, secure *tls.Config) error {
	server := &http.Server{Addr: address, Handler: h, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard,
		"", 0)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	listenAndServe := server.ListenAndServe
	if server.TLSConfig = secure; secure != nil {
		server.Protocols.SetHTTP2(true)
		listenAndServe = func() error { return server.ListenAndServeTLS("", "") }
	}
	if err := listenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("measure: %w", err)
	}
	return nil
}

// ServeMallocs is the one line of Prometheus' Go metrics that the measuring reads.
func ServeMallocs(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_, _ = fmt.Fprintf(w, "%s %d\n", MallocsMetric, m.Mallocs) // nobody reads any more when it fails
}

var (
	bigResponse  = []byte(strings.Repeat("x", BigBytes))
	hugeResponse = []byte(strings.Repeat("x", HugeBytes))
)

// ServeUpstream answers all loads. It is the upstream of gRPC, and of the others where nginx is not
// installed.
func ServeUpstream(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		serveUnary(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // a client that breaks off does not get a response anyway
	response := []byte(smallResponse)
	switch r.URL.Path {
	case BigPath:
		response = bigResponse
	case HugePath:
		response = hugeResponse
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(response)))
	_, _ = w.Write(response)
}

// serveUnary answers a gRPC call with the message that it brought.
func serveUnary(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(r.Body)
	if err != nil || len(message) < 5 || int(binary.BigEndian.Uint32(message[1:])) != len(message)-5 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	_ = http.NewResponseController(w).Flush() // so that it has no Content-Length, as gRPC's servers have none
	_, _ = w.Write(message)
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0") // not announced: gRPC's servers do not
}
