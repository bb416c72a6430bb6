package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sluice-gateway/sluice/filters"
)

// refuseGRPC writes a refusal as a client of gRPC understands it: a response of HTTP status 200
// that is nothing but a head, with a grpc-status and a grpc-message in it (PROTOCOL-HTTP2.md of
// gRPC, "Trailers-Only"). Fields such as Sluice-Reason become metadata. The problem document is
// left out but for its sentence; metrics and logs keep the HTTP status.
func refuseGRPC(w outbound, r *filters.Response) {
	h := make(filters.Header, 0, len(r.Header)+2)
	code := strconv.Itoa(int(filters.GRPCCodeOf(r.Reason, r.Status)))
	for _, f := range r.Header {
		if filters.EqualName(f.Name, "Grpc-Status") { // the refusal has one of its own
			code = f.Value
			continue
		}
		if !filters.EqualName(f.Name, "Content-Type") {
			h = append(h, f)
		}
	}
	var problem struct{ Detail string }
	_ = json.Unmarshal(r.Body, &problem) // one that is none says nothing
	if problem.Detail == "" {
		problem.Detail = r.Reason.Title()
	}
	h.Add("Content-Type", "application/grpc")
	w.Head(http.StatusOK, grpcStatus(h, code, problem.Detail), 0)
}

// grpcStatus appends the status of a call that the gateway ends.
func grpcStatus(h filters.Header, code, text string) filters.Header {
	h.Add("Grpc-Status", code)
	h.Add("Grpc-Message", grpcMessage(text))
	return h
}

// grpcMessage encodes a text as the protocol wants it: what is not printable ASCII, and the percent
// sign, by its bytes.
func grpcMessage(text string) string {
	const digit = "0123456789ABCDEF"
	b := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digit[c>>4], digit[c&15])
		}
	}
	return string(b)
}
