package message

import (
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func TestJoinCookies(t *testing.T) {
	t.Parallel()
	type h = filters.Header
	for _, c := range []struct{ have, want h }{
		{nil, nil}, {h{{Name: "A", Value: "b"}}, h{{Name: "A", Value: "b"}}},
		{h{{Name: "Cookie", Value: "a=b"}}, h{{Name: "Cookie", Value: "a=b"}}},
		{
			h{{Name: "A", Value: "b"}, {Name: "Cookie", Value: "a=b"}, {Name: "C", Value: "d"}, {Name: "cookie", Value: "c=d"},
				{Name: "COOKIE", Value: ""}},
			h{{Name: "A", Value: "b"}, {Name: "Cookie", Value: "a=b; c=d; "}, {Name: "C", Value: "d"}},
		},
	} {
		got := slices.Clone(c.have)
		if JoinCookies(&got); !slices.Equal(got, c.want) {
			t.Errorf("%v becomes %v, want %v", c.have, got, c.want)
		}
	}
}
