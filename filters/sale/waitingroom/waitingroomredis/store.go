package waitingroomredis

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Store is a [waitingroom.Store] in Redis. Make it with [New]. It is safe for concurrent use.
type Store struct {
	client *redisx.Client
	prefix string
	script *redisx.Script
}

var _ waitingroom.Store = (*Store)(nil)

// New makes a store. Keys begin with prefix. The client remains the caller's, and its timeout bounds each call.
func New(client *redisx.Client, prefix string) *Store {
	return &Store{client: client, prefix: prefix + "waiting:", script: exchangeScript}
}

// Exchange implements [waitingroom.Store].
func (s *Store) Exchange(ctx context.Context, sale string, r *waitingroom.Report) (waitingroom.Grant, error) {
	call := redisx.NewCall()
	call.Buffer = append(append(call.Buffer, s.prefix...), sale...)
	call.EndKey()
	call.Buffer = appendReport(call.Buffer, r)
	reply, err := s.client.Run(ctx, s.script, call, 1)
	if err != nil {
		return waitingroom.Grant{}, fmt.Errorf("waitingroomredis: sale %s: %w", sale, err)
	}
	g, err := parseGrant(reply)
	if err != nil {
		return g, fmt.Errorf("waitingroomredis: sale %s: %w", sale, err)
	}
	return g, nil
}

func appendReport(b []byte, r *waitingroom.Report) []byte {
	opened := 0.0
	if r.Known.Opened {
		opened = 1
	}
	for _, v := range [...]float64{
		float64(r.Opens.UnixMicro()), r.Rate, float64(r.Newcomers), float64(r.Tokens), float64(r.Returned),
		float64(r.Turned), r.Waited, opened, r.Known.Early, r.Known.Issued, r.Known.Serving,
	} {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	for _, reg := range r.Registers {
		b = append(binary.BigEndian.AppendUint16(b, reg.Index), reg.Rank)
	}
	return b
}

func parseGrant(reply string) (g waitingroom.Grant, err error) {
	const size = 2 + 8*8
	if len(reply) != size {
		return g, fmt.Errorf("reply of %d bytes, want %d", len(reply), size)
	}
	var v [8]float64
	for i := range v {
		v[i] = math.Float64frombits(binary.BigEndian.Uint64([]byte(reply[2+8*i:])))
	}
	return waitingroom.Grant{
		Opened: reply[0] == 1, Direct: reply[1] == 1, Tokens: int(v[0]), First: v[1], Numbers: int(v[2]), Early: v[3],
		Issued: v[4], Serving: v[5], Speed: v[6], Granted: v[7],
	}, nil
}
