package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Duration is a span of time as the configuration writes it: 250ms, 10s, 24h.
type Duration time.Duration

// Size is a number of bytes as the configuration writes it: 512B, 64KiB, 8MiB.
type Size int64

// ByteRate is a number of bytes a second as the configuration writes it: 256B/s, 64KiB/s.
type ByteRate int64

// Percent is a share as the configuration writes it, 50%, from 0 to 100.
type Percent float64

// Rate is a number of events in a period: 100/s, 20/m, 1000/h, 5000/d.
type Rate struct {
	Count  int
	Period time.Duration
}

// StatusRange is a range of HTTP status codes: 404, or 2xx for 200 to 299.
type StatusRange struct{ From, To int }

// The written forms. They are the patterns of the JSON Schema too, so they stay within what ECMA 262 and RE2 share.
const (
	durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	sizePattern     = `^[0-9]+(B|KiB|MiB|GiB)$`
	byteRatePattern = `^[0-9]+(B|KiB|MiB|GiB)/s$`
	percentPattern  = `^[0-9]+(\.[0-9]+)?%$`
	ratePattern     = `^[1-9][0-9]*/(s|m|h|d)$`
	statusPattern   = `^([1-5]xx|[1-5][0-9][0-9])$`
)

// How a fault describes what is wanted.
const (
	wantDuration = "a duration such as 250ms, 10s or 24h"
	wantSize     = "a size such as 512B, 64KiB or 8MiB"
	wantByteRate = "a number of bytes a second such as 256B/s or 64KiB/s"
	wantPercent  = "a percentage from 0% to 100%"
	wantRate     = "a rate such as 100/s, 20/m or 1000/h"
	wantStatus   = "a status such as 404 or 2xx"
)

var (
	durationForm = regexp.MustCompile(durationPattern)
	sizeForm     = regexp.MustCompile(sizePattern)
	percentForm  = regexp.MustCompile(percentPattern)
	rateForm     = regexp.MustCompile(ratePattern)
	statusForm   = regexp.MustCompile(statusPattern)
)

// rateMax bounds the number of a rate, so that a token's share of the period stays at least a nanosecond.
const rateMax = 1_000_000_000

func duration(d time.Duration) Duration { return Duration(d) }

// ParseDuration reads a duration such as 250ms or 1h30m; the units are ms, s, m and h, a sign is not allowed.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if !durationForm.MatchString(s) || err != nil {
		return 0, fmt.Errorf("%q is not %s", s, wantDuration)
	}
	return Duration(d), nil
}

// String writes the duration in the largest unit that needs no fraction.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t == 0:
		return "0s"
	case t%time.Hour == 0:
		return strconv.FormatInt(int64(t/time.Hour), 10) + "h"
	case t%time.Minute == 0:
		return strconv.FormatInt(int64(t/time.Minute), 10) + "m"
	case t%time.Second == 0:
		return strconv.FormatInt(int64(t/time.Second), 10) + "s"
	}
	return strconv.FormatFloat(float64(t)/float64(time.Millisecond), 'f', -1, 64) + "ms"
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads a number of bytes such as 64KiB; the units are B, KiB, MiB and GiB.
func parseSize(s string) (Size, error) {
	if !sizeForm.MatchString(s) {
		return 0, fmt.Errorf("%q is not %s", s, wantSize)
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64/u.bytes {
			break
		}
		return Size(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is more than a size can be", s)
}

// String writes the size in the largest unit that needs no fraction.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(b []byte) (err error) {
	*s, err = parseSize(string(b))
	return err
}

// parseByteRate reads a size for each second such as 256B/s.
func parseByteRate(s string) (ByteRate, error) {
	size, ok := strings.CutSuffix(s, "/s")
	if !ok || !sizeForm.MatchString(size) {
		return 0, fmt.Errorf("%q is not %s", s, wantByteRate)
	}
	n, err := parseSize(size)
	if err != nil {
		return 0, fmt.Errorf("%q is more than a number of bytes a second can be", s)
	}
	return ByteRate(n), nil
}

// String writes the rate in the largest unit that needs no fraction.
func (r ByteRate) String() string { return Size(r).String() + "/s" }

// MarshalText implements [encoding.TextMarshaler].
func (r ByteRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *ByteRate) UnmarshalText(b []byte) (err error) {
	*r, err = parseByteRate(string(b))
	return err
}

// parsePercent reads a share from 0% to 100%.
func parsePercent(s string) (Percent, error) {
	p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if !percentForm.MatchString(s) || err != nil || p > 100 {
		return 0, fmt.Errorf("%q is not %s", s, wantPercent)
	}
	return Percent(p), nil
}

func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// Share returns the percentage as a fraction from 0 to 1.
func (p Percent) Share() float64 { return float64(p) / 100 }

// MarshalText implements [encoding.TextMarshaler].
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Percent) UnmarshalText(b []byte) (err error) {
	*p, err = parsePercent(string(b))
	return err
}

var ratePeriods = []struct {
	name   string
	period time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// parseRate reads a rate such as 100/s, 20/m or 1000/h; the number is 1 to 1,000,000,000.
func parseRate(s string) (Rate, error) {
	if !rateForm.MatchString(s) {
		return Rate{}, fmt.Errorf("%q is not %s", s, wantRate)
	}
	digits, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(digits)
	if err != nil || n > rateMax {
		return Rate{}, fmt.Errorf("%q is more than %d/%s", s, rateMax, unit)
	}
	for _, p := range ratePeriods {
		if p.name == unit {
			return Rate{Count: n, Period: p.period}, nil
		}
	}
	return Rate{}, fmt.Errorf("%q is not %s", s, wantRate)
}

func (r Rate) String() string {
	for _, p := range ratePeriods {
		if p.period == r.Period {
			return strconv.Itoa(r.Count) + "/" + p.name
		}
	}
	return strconv.Itoa(r.Count) + "/" + r.Period.String()
}

// MarshalText implements [encoding.TextMarshaler].
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = parseRate(string(b))
	return err
}

// parseStatusRange reads one status, 404, or a hundred of them, 2xx; 100 to 599.
func parseStatusRange(s string) (StatusRange, error) {
	if !statusForm.MatchString(s) {
		return StatusRange{}, fmt.Errorf("%q is not %s", s, wantStatus)
	}
	if s[1] == 'x' {
		from := int(s[0]-'0') * 100
		return StatusRange{From: from, To: from + 99}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return StatusRange{}, fmt.Errorf("%q is not %s", s, wantStatus)
	}
	return StatusRange{From: n, To: n}, nil
}

// Contains reports whether the status lies in the range.
func (r StatusRange) Contains(status int) bool { return r.From <= status && status <= r.To }

func (r StatusRange) String() string {
	switch {
	case r.From == r.To:
		return strconv.Itoa(r.From)
	case r.From%100 == 0 && r.To == r.From+99:
		return strconv.Itoa(r.From/100) + "xx"
	}
	return fmt.Sprintf("%d-%d", r.From, r.To) // not a written form; only a range made in Go reads so
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *StatusRange) UnmarshalText(b []byte) (err error) {
	*r, err = parseStatusRange(string(b))
	return err
}

// JSONSchema is the form of a written duration.
func (Duration) JSONSchema() *jsonschema.Schema { return written(durationPattern, wantDuration) }

// JSONSchema is the form of a written size.
func (Size) JSONSchema() *jsonschema.Schema { return written(sizePattern, wantSize) }

// JSONSchema is the form of a written number of bytes a second.
func (ByteRate) JSONSchema() *jsonschema.Schema { return written(byteRatePattern, wantByteRate) }

// JSONSchema is the form of a written percentage.
func (Percent) JSONSchema() *jsonschema.Schema { return written(percentPattern, wantPercent) }

// JSONSchema is the form of a written rate.
func (Rate) JSONSchema() *jsonschema.Schema { return written(ratePattern, wantRate) }
