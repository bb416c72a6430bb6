package ratelimitredis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Limiter is a [ratelimit.Limiter] in Redis. Make it with [New]. It is safe for concurrent use.
type Limiter struct {
	client *redisx.Client
	prefix string // of all buckets of this limit
	limit  ratelimit.Limit
	suffix string // of the key of a window
	args   []byte // the numbers of the limit, the first arguments of its script
}

var _ ratelimit.Limiter = (*Limiter)(nil)

// New makes the limiter of one limit. Keys begin with prefix. The client remains the caller's, and
// its timeout bounds each decision.
func New(client *redisx.Client, prefix string, limit ratelimit.Limit) *Limiter {
	l := &Limiter{client: client, prefix: prefix + "limit:" + limit.Name + ":", limit: limit}
	if limit.FixedWindow {
		own := ratelimit.Rate{Count: limit.Count, Period: limit.Period}
		l.suffix, l.args = string(appendPeriod(nil, limit.Period)), appendWindow(nil, own)
	} else {
		l.args = appendBucket(nil, limit.Burst, limit.Count, limit.Period)
	}
	return l
}

// Allow is [Limiter.Charge] for one request.
func (l *Limiter) Allow(ctx context.Context, key string, now time.Time) (ratelimit.Decision, error) {
	return l.Charge(ctx, ratelimit.Charge{Key: key, Now: now, Cost: 1})
}

// Charge implements [ratelimit.Limiter]. The time is Redis's, not that of the charge.
func (l *Limiter) Charge(ctx context.Context, c ratelimit.Charge) (ratelimit.Decision, error) {
	call := redisx.NewCall()
	call.Buffer = l.appendKey(call.Buffer, c.Key)
	script := bucketScript
	if l.limit.FixedWindow {
		script = windowScript
		call.Buffer = l.appendWindow(call, c)
	} else {
		call.Buffer = l.appendBucket(call, c)
	}
	reply, err := l.client.Run(ctx, script, call, 1)
	var d ratelimit.Decision
	if err == nil {
		d, err = parseDecision(reply)
	}
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("ratelimitredis: limit %s: %w", l.limit.Name, err)
	}
	return d, nil
}

// appendBucket ends the key of a bucket and appends the arguments of its script.
func (l *Limiter) appendBucket(call *redisx.Call, c ratelimit.Charge) []byte {
	if c.Rate.Period > 0 { // a bucket apart, since this one has another size
		call.Buffer = append(call.Buffer, ':')
		call.Buffer = strconv.AppendInt(call.Buffer, int64(c.Rate.Count), 10)
		call.Buffer = appendPeriod(call.Buffer, c.Rate.Period)
		call.EndKey()
		call.Buffer = appendBucket(call.Buffer, c.Rate.Count, c.Rate.Count, c.Rate.Period)
	} else {
		call.EndKey()
		call.Buffer = append(call.Buffer, l.args...)
	}
	return appendDouble(call.Buffer, float64(c.Cost))
}

// appendWindow ends the key of a window and appends the arguments of its script.
func (l *Limiter) appendWindow(call *redisx.Call, c ratelimit.Charge) []byte {
	if c.Rate.Period > 0 {
		call.Buffer = appendPeriod(call.Buffer, c.Rate.Period)
		call.EndKey()
		call.Buffer = appendWindow(call.Buffer, c.Rate)
	} else {
		call.Buffer = append(call.Buffer, l.suffix...)
		call.EndKey()
		call.Buffer = append(call.Buffer, l.args...)
	}
	return appendDouble(appendDouble(call.Buffer, float64(c.Cost)), float64(c.Window))
}

func appendBucket(b []byte, burst, count int, period time.Duration) []byte {
	b = appendDouble(b, float64(burst))
	b = appendDouble(b, float64(count))
	return appendDouble(b, float64(period)/float64(time.Microsecond))
}

func appendWindow(b []byte, r ratelimit.Rate) []byte {
	return appendDouble(appendDouble(b, float64(r.Count)), float64(max(r.Period/time.Second, 1)))
}

// appendPeriod appends what tells keys of different periods apart.
func appendPeriod(b []byte, period time.Duration) []byte {
	b = strconv.AppendInt(append(b, ':'), int64(period/time.Second), 10)
	return append(b, 's')
}

func appendDouble(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
}

// appendKey appends the key of a bucket: 144 bits of a digest of the value. Its fixed length keeps
// names with a colon apart.
func (l *Limiter) appendKey(b []byte, value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.AppendEncode(append(b, l.prefix...), sum[:18])
}

func parseDecision(reply string) (ratelimit.Decision, error) {
	const bucketSize, windowSize = 1 + 3*8, 1 + 4*8
	if len(reply) != bucketSize && len(reply) != windowSize {
		return ratelimit.Decision{}, fmt.Errorf("reply of %d bytes, want %d or %d", len(reply), bucketSize, windowSize)
	}
	d := ratelimit.Decision{Allowed: reply[0] == 1, Remaining: int(double(reply[1:])), Reset: span(double(reply[17:]))}
	if !d.Allowed {
		d.RetryAfter = span(double(reply[9:]))
	}
	if len(reply) == windowSize {
		d.Window = int64(double(reply[25:]))
	}
	return d, nil
}

func double(s string) float64 {
	var v uint64
	for i := range 8 {
		v = v<<8 | uint64(s[i])
	}
	return math.Float64frombits(v)
}

// span returns so many microseconds, or the longest duration if that is shorter.
func span(micros float64) time.Duration {
	if micros >= math.MaxInt64/float64(time.Microsecond) {
		return math.MaxInt64
	}
	return time.Duration(micros) * time.Microsecond
}
