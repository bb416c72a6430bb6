package message

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sluice-gateway/sluice/filters"
)

func TestParseLength(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "9": 9, "10": 10, "007": 7,
		"000000000000000001": 1, "0000000000000000001": -1, "00000000000000000000000000000001": -1,
		strings.Repeat("0", 65): -1,
		"999999999999999999":    999999999999999999, "1000000000000000000": -1,
		"9223372036854775807": -1, "9223372036854775808": -1, "18446744073709551621": -1, "99999999999999999999": -1,
		"": -1, "-1": -1, "+1": -1, " 1": -1, "1 ": -1, "1,1": -1, "0x1": -1, "1e2": -1, "1_0": -1, "1.0": -1, "/": -1,
		":": -1, "\x00": -1, "١": -1,
	} {
		n, ok := ParseLength(s)
		if ok != (want >= 0) || ok && n != want || !ok && n != 0 {
			t.Errorf("ParseLength(%q) = %d, %v; want %d", s, n, ok, want)
		}
	}
}

func TestHasNoBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		status int
		want   bool
	}{{"GET", 200, false}, {"HEAD", 200, true}, {"GET", 199, true}, {"GET", 100, true}, {"GET", 204, true},
		{"GET", 304, true}, {"POST", 205, false}, {"POST", 303, false}} {
		if HasNoBody(c.method, c.status) != c.want {
			t.Errorf("HasNoBody(%q, %d) = %v", c.method, c.status, !c.want)
		}
	}
}

// allowed reads with an allowance as an engine's Read does.
type allowed struct {
	Allowance
	io.Reader
}

func (a *allowed) Read(p []byte) (int, error) {
	if a.Spent() {
		return 0, filters.ErrBodyTooLarge
	}
	return a.Spend(a.Reader.Read(a.Clip(p)))
}

func TestAllowance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit Allowance
		want  string
		err   error
	}{
		{Unlimited, "hello", nil}, {6, "hello", nil}, {5, "hello", nil}, {4, "hell", filters.ErrBodyTooLarge},
		{0, "", filters.ErrBodyTooLarge},
	} {
		for name, from := range map[string]io.Reader{
			"whole": strings.NewReader("hello"), "bytes": iotest.OneByteReader(strings.NewReader("hello")),
			"with the end": iotest.DataErrReader(strings.NewReader("hello")),
		} {
			r := &allowed{c.limit, from}
			got, err := io.ReadAll(r)
			if string(got) != c.want || err != c.err {
				t.Errorf("%s, at most %d: %q, %v; want %q, %v", name, c.limit, got, err, c.want, c.err)
			}
			if n, err := r.Read(make([]byte, 1)); n > 0 || c.err != nil && err != c.err {
				t.Errorf("%s, at most %d: then %d bytes, %v", name, c.limit, n, err)
			}
		}
	}
}

func TestReadAll(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 5000)
	for _, text := range []string{"", "hello", long} {
		for name, from := range map[string]io.Reader{
			"whole": strings.NewReader(text), "halves": iotest.HalfReader(strings.NewReader(text)),
			"with the end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			var w Whole
			w.Begin(nil, -1)
			got, err := w.ReadAll(from)
			if string(got) != text || err != nil {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(text), err)
			}
		}
	}
	broken := errors.New("broken")
	var w Whole
	w.Begin(nil, -1)
	if _, err := w.ReadAll(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
}

func TestAllocBodies(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseLength("999999999999999999") }); n > 0 {
		t.Errorf("%.0f allocations of a length", n)
	}
	var w Whole
	r := strings.NewReader("hello")
	if n := testing.AllocsPerRun(100, func() {
		r.Reset("hello")
		w.Begin(nil, 5)
		_, _ = w.ReadAll(r)
		w.Release()
	}); n > 0 {
		t.Errorf("%.0f allocations into memory that suffices", n)
	}
}
