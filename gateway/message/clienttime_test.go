package message

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// resting is a body of which a piece comes each second.
type resting struct{ pieces int }

func (r *resting) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	if r.pieces--; r.pieces < 0 {
		return 0, io.EOF
	}
	return copy(p, "x"), nil
}

func (*resting) Interrupt() {}

// slowSender copies the stream of its upload to a service that takes a minute for each piece.
type slowSender struct {
	Upload
	collected
}

func (s *slowSender) SendBody() error { return s.Copy(s, -1, make([]byte, 10)) }

func (s *slowSender) SendPiece(p []byte) error {
	time.Sleep(time.Minute)
	return s.collected.SendPiece(p)
}

// The time for which the client is waited for is counted while it lasts, and the service's is not.
func TestClientTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := new(slowSender), time.Now()
		s.Start(&resting{pieces: 2}, s)
		for _, c := range []struct{ after, want time.Duration }{
			{500 * time.Millisecond, 500 * time.Millisecond}, {10 * time.Second, time.Second},
			{61*time.Second + 250*time.Millisecond, 1250 * time.Millisecond}, {time.Hour, 3 * time.Second},
		} {
			time.Sleep(c.after - time.Since(began))
			if got := s.ClientTime(); got != c.want {
				t.Errorf("after %v it is %v, want %v", c.after, got, c.want)
			}
		}
		if err := s.Wait(); err != nil || s.String() != "xx" {
			t.Errorf("%q, %v", s.String(), err)
		}
	})
}
