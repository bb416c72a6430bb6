package redisbarrier

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// Replies as the clients of Redis give them; what is none of the script's is an error and never
// taken for done. The tests on real servers are in bench/suite/participant.
func TestReplies(t *testing.T) {
	t.Parallel()
	b := participant.Barrier{GID: "g0000001", BranchID: "01", Op: "compensate"}
	for _, c := range []struct {
		reply   any
		want    Outcome
		refused string
		fails   bool
	}{
		{[]any{"executed", "2"}, Outcome{participant.Executed, "2"}, "", false},
		{[]any{[]byte("repeated"), []byte("2")}, Outcome{participant.Repeated, "2"}, "", false}, // redigo
		{[]any{"empty", ""}, Outcome{participant.Empty, ""}, "", false},
		{[]any{"too-late", ""}, Outcome{participant.TooLate, ""}, "", false},
		{[]any{"refused", "sold-out"}, Outcome{}, "sold-out", true},
		{[]any{"done", ""}, Outcome{}, "", true},
		{[]any{"executed"}, Outcome{}, "", true},
		{[]any{"executed", 2}, Outcome{}, "", true},
		{"executed", Outcome{}, "", true},
		{nil, Outcome{}, "", true},
	} {
		s := Store{Eval: func(_ context.Context, _ string, keys []string, args ...any) (any, error) {
			if len(keys) != 2 || keys[0] != "barrier:g0000001-01" || keys[1] != "stock" || len(args) != 5 ||
				args[0] != "compensate" || args[1] != "action" || args[2] != "604800000" || args[4] != 7 {
				t.Errorf("keys %v, arguments %v", keys, args)
			}
			return c.reply, nil
		}}
		got, err := s.Call(t.Context(), b, NewEffect(""), []string{"stock"}, 7)
		var refused *Refused
		if got != c.want || (err != nil) != c.fails || errors.As(err, &refused) != (c.refused != "") ||
			c.refused != "" && refused.Reason != c.refused {
			t.Errorf("%v: %+v, %v; want %+v", c.reply, got, err, c.want)
		}
	}
}
