package idempotency

import (
	"strconv"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func TestVerdictOfGRPC(t *testing.T) {
	usual := Settings{Record: []StatusRange{{200, 299}, {400, 499}}, NotExecuted: []StatusRange{{503, 503}}}
	all := Settings{Record: []StatusRange{{200, 599}}}
	successes := Settings{Record: []StatusRange{{200, 299}}}
	want := []struct{ usual, all, successes Op }{
		0:  {Finish, Finish, Finish},
		1:  {MarkUnknown, Finish, MarkUnknown},
		2:  {MarkUnknown, Finish, MarkUnknown},
		3:  {Finish, Finish, Free},
		4:  {MarkUnknown, Finish, MarkUnknown},
		5:  {Finish, Finish, Free},
		6:  {Finish, Finish, Free},
		7:  {Finish, Finish, Free},
		8:  {MarkUnknown, Finish, MarkUnknown}, // be it a limit, or a response too long to be sent
		9:  {Finish, Finish, Free},
		10: {Finish, Finish, Free},
		11: {Finish, Finish, Free},
		12: {Free, Finish, Free},
		13: {MarkUnknown, Finish, MarkUnknown},
		14: {Free, Finish, MarkUnknown},
		15: {MarkUnknown, Finish, MarkUnknown},
		16: {Finish, Finish, Free},
		17: {MarkUnknown, Finish, MarkUnknown}, // there is none
	}
	grpc := filters.Header{{Name: "content-type", Value: "application/grpc+proto"}}
	for code, w := range want {
		status := filters.Header{{Name: "grpc-status", Value: strconv.Itoa(code)}}
		for where, r := range map[string]filters.Response{
			"behind it":   {Status: 200, Header: grpc, Trailer: status, Whole: true},
			"in the head": {Status: 200, Header: append(grpc.Clone(), status...), Whole: true},
		} {
			if a, b, c := usual.judge(&r), all.judge(&r), successes.judge(&r); a != w.usual || b != w.all ||
				c != w.successes {
				t.Errorf("code %d %s: %v %v %v, want %+v", code, where, a, b, c, w)
			}
		}
	}
	limited := usual
	limited.NotExecuted = []StatusRange{{429, 429}}
	if got := limited.judge(&filters.Response{Status: 200, Header: grpc,
		Trailer: filters.Header{{Name: "Grpc-Status", Value: "8"}}, Whole: true}); got != Free {
		t.Errorf("a route that says so: %v, want Free", got)
	}
	web := filters.Header{{Name: "Content-Type", Value: "application/grpc-web"}}
	for _, c := range []struct {
		what string
		r    filters.Response
		want Op
	}{
		{"without a status", filters.Response{Status: 200, Header: grpc, Whole: true}, MarkUnknown},
		{"a status that is none", filters.Response{Status: 200, Header: grpc,
			Trailer: filters.Header{{Name: "grpc-status", Value: "-1"}}, Whole: true}, MarkUnknown},
		{"a stream", filters.Response{Status: 200, Header: grpc}, Finish},
		{"an error of HTTP", filters.Response{Status: 502, Header: grpc, Whole: true}, MarkUnknown},
		{"gRPC-Web", filters.Response{Status: 200, Header: web, Whole: true}, Finish},
	} {
		if got := usual.judge(&c.r); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
