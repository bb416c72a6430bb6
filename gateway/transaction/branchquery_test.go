package transaction

import (
	"net/url"
	"testing"
)

// The coordinator's parameters in a rendered query, however they are spelled, are not the client's.
func TestQueryKeepsTheCoordinatorsParameters(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"": "", "a=1": "a=1", "a=1&b=2": "a=1&b=2", "gid=x": "", "a=1&op=compensate&b=2": "a=1&b=2", "op": "",
		"op=": "", "&&a=1&": "a=1", "trans_type=x&branch_id=1": "", "%6fp=x": "", "o%70=x&a=1": "a=1", "OP=x": "",
		"Branch_ID=1": "", "g%69d=x": "", "op[]=x": "", "op%5B0%5D=x": "", "a=1;op=x": "", "+op=x": "", "op%00=x": "",
		"ops=x": "ops=x", "shop=1": "shop=1", "op%=x": "op%=x", "gid_=x": "gid_=x", "a=op": "a=op",
		"a=gid%3Dx": "a=gid%3Dx",
	} {
		if got := withoutDTM(query); got != want {
			t.Errorf("%q leaves %q, want %q", query, got, want)
		}
	}
	call := branchCall{
		branch: branch{gid: "g1", op: opDo, id: "01"}, operation: sagaOperations[0], env: new(envelope),
		call: &envelopeCall{Query: "%6fp=compensate&GID=x&a=1"},
	}
	q, err := url.ParseQuery(call.query())
	if err != nil || len(q) != 5 || q.Get("op") != "action" || q.Get("gid") != "g1" || q.Get("a") != "1" {
		t.Errorf("the service sees %v, %v", q, err)
	}
}
