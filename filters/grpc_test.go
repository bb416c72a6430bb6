package filters

import (
	"strconv"
	"testing"
)

func TestIsGRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC;x=1": true,
		"application/grpc-web": false, "application/grpc-web+proto": false,
		"application/grpcx": false, "application/json": false, "": false,
	} {
		if got := IsGRPC(contentType); got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
}

func TestCodesOfRefusals(t *testing.T) {
	for _, c := range []struct {
		reason Reason
		want   GRPCCode
	}{
		{KeyReused, 3}, {RequestInProgress, 10}, {OutcomeUnknown, 9}, {ResponseNotReplayable, 6},
		{StoreUnavailable, 14}, {BreakerOpen, 14}, {UpstreamFailed, 14}, {UpstreamTimeout, 4},
		{TransactionFailed, 10}, {BodyTooLarge, 8}, {Unauthenticated, 16}, {InternalError, 13},
		{MethodNotAllowed, 12},
	} {
		if got := GRPCCodeOf(c.reason, c.reason.Status()); got != c.want {
			t.Errorf("%s: %d, want %d", c.reason, got, c.want)
		}
	}
	if GRPCCodeOf("", 501) != 12 || GRPCCodeOf("", 403) != 7 || GRPCCodeOf("", 418) != 2 || GRPCCodeOf("", 507) != 13 {
		t.Error("a status without a reason of its own")
	}
}

func TestGRPCStatus(t *testing.T) {
	status := func(s string) Header { return Header{{Name: "grpc-status", Value: s}} }
	for _, c := range []struct {
		r      Response
		code   GRPCCode
		exists bool
	}{
		{Response{Trailer: status("0")}, GRPCOK, true}, {Response{Header: status("5")}, GRPCNotFound, true},
		{Response{Header: status("0"), Trailer: status("14")}, GRPCUnavailable, true},
		{Response{Trailer: status("16")}, GRPCUnauthenticated, true},
		{Response{}, GRPCUnknown, false}, {Response{Trailer: status("17")}, GRPCUnknown, false},
		{Response{Trailer: status("-1")}, GRPCUnknown, false},
		{Response{Trailer: status("256")}, GRPCUnknown, false}, {Response{Trailer: status("")}, GRPCUnknown, false},
	} {
		if code, ok := c.r.GRPCStatus(); code != c.code || ok != c.exists {
			t.Errorf("%+v: %d, %v; want %d, %v", c.r, code, ok, c.code, c.exists)
		}
	}
}

func TestHTTPStatusOfGRPC(t *testing.T) {
	for code, want := range [...]int{200, 504, 500, 400, 504, 404, 409, 403, 500, 400, 409, 400, 501, 500, 503, 500,
		401, 500, 500} {
		if got := GRPCCode(code).HTTPStatus(); got != want {
			t.Errorf("code %s is read as %d, want %d", strconv.Itoa(code), got, want)
		}
	}
}

func TestExchangeOfGRPC(t *testing.T) {
	x := Exchange{Method: "POST", Header: Header{{Name: "content-type", Value: "application/grpc"}}}
	if !x.IsGRPC() {
		t.Error("a call is none")
	}
	if x.Method = "GET"; x.IsGRPC() {
		t.Error("a GET is a call")
	}
}
