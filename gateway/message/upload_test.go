package message

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// stream is a body whose last Read waits until it is interrupted.
type stream struct {
	io.Reader
	wake sync.Once
	woke chan struct{}
}

func newStream(r io.Reader) *stream { return &stream{Reader: r, woke: make(chan struct{})} }

func (s *stream) Interrupt() { s.wake.Do(func() { close(s.woke) }) }

var errInterrupted = errors.New("interrupted")

// waiting is a reader that waits for the stream's interrupt.
type waiting struct{ s *stream }

func (w waiting) Read([]byte) (int, error) {
	<-w.s.woke
	return 0, errInterrupted
}

// collected keeps the pieces of a body, and fails at the nth.
type collected struct {
	strings.Builder
	calls  []string
	failAt int
}

var errSend = errors.New("cannot be sent")

func (c *collected) BeforeRead() { c.calls = append(c.calls, "wait") }

func (c *collected) SendPiece(p []byte) error {
	c.calls = append(c.calls, string(p))
	if c.failAt--; c.failAt == 0 {
		return errSend
	}
	c.Write(p)
	return nil
}

func TestCopy(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	body := func() io.Reader { return iotest.OneByteReader(strings.NewReader("abc")) }
	for name, c := range map[string]struct {
		from   io.Reader
		length int64
		failAt int
		want   string
		client error // the cause of a ClientError
		err    error
	}{
		"no length":         {from: body(), length: -1, want: "abc"},
		"its length":        {from: body(), length: 3, want: "abc"},
		"end with the last": {from: iotest.DataErrReader(strings.NewReader("abc")), length: 3, want: "abc"},
		"too short":         {from: body(), length: 4, want: "abc", client: io.ErrUnexpectedEOF},
		"too long":          {from: body(), length: 2, want: "abc", client: io.ErrUnexpectedEOF},
		"breaks": {from: io.MultiReader(body(), iotest.ErrReader(broken)), length: -1, want: "abc",
			client: broken},
		"breaks with a piece":   {from: iotest.TimeoutReader(body()), length: -1, want: "a", client: iotest.ErrTimeout},
		"is not taken":          {from: body(), length: 3, failAt: 2, want: "a", err: errSend},
		"not taken at its end":  {from: body(), length: 3, failAt: 4, want: "abc", err: errSend},
		"nothing and no length": {from: strings.NewReader(""), length: -1},
	} {
		to := &collected{failAt: c.failAt}
		err := Copy(to, newStream(c.from), c.length, make([]byte, 10))
		if to.String() != c.want {
			t.Errorf("%s: %q is sent, want %q", name, to.String(), c.want)
		}
		var client *ClientError
		switch {
		case c.client != nil:
			if !errors.As(err, &client) || !errors.Is(err, c.client) {
				t.Errorf("%s: %v, want the client's %v", name, err, c.client)
			}
		case err != c.err:
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		for i, call := range to.calls {
			if (call == "wait") != (i%2 == 0) {
				t.Errorf("%s: calls are %q", name, to.calls)
				break
			}
		}
	}
}

// sending is a sender that copies a stream.
type sending struct {
	collected
	from Stream
}

func (s *sending) SendBody() error { return Copy(s, s.from, -1, make([]byte, 10)) }

func TestUploadIsInterrupted(t *testing.T) {
	t.Parallel()
	from := newStream(nil)
	from.Reader = io.MultiReader(strings.NewReader("abc"), waiting{from})
	s := &sending{from: from}
	var u Upload
	u.Start(from, s)
	if u.Over() {
		t.Error("an upload that waits for its client is over")
	}
	u.Interrupt()
	if err := u.Wait(); !errors.Is(err, errInterrupted) || !u.Over() || s.String() != "abc" {
		t.Errorf("%v, over %v, %q", err, u.Over(), s.String())
	}
	u.Interrupt() // of what is over: nothing
}

func TestUploadInMemory(t *testing.T) {
	t.Parallel()
	b := NewInMemory([]byte("abc"))
	s := &sending{from: b}
	var u Upload
	u.Start(nil, s)
	u.Interrupt()
	if err := u.Wait(); err != nil || s.String() != "abc" {
		t.Errorf("%v, %q", err, s.String())
	}
}
