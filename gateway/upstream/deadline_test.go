package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestWhatADeadlineLeaves(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		deadline, timeout, typical time.Duration // a deadline of 0: none
		allowed                    time.Duration
		holds, shortened           bool
	}{
		{0, 2 * time.Second, 0, 2 * time.Second, true, false},
		{time.Second, 2 * time.Second, 0, time.Second, true, false},
		{time.Minute, 2 * time.Second, 0, 2 * time.Second, true, false},
		{10 * time.Millisecond, 2 * time.Second, 0, 10 * time.Millisecond, true, true},
		{10 * time.Millisecond, 2 * time.Second, 20 * time.Millisecond, 10 * time.Millisecond, false, true},
		{70 * time.Millisecond, 2 * time.Second, 20 * time.Millisecond, 70 * time.Millisecond, true, true},
		{90 * time.Millisecond, 2 * time.Second, 20 * time.Millisecond, 90 * time.Millisecond, true, false},
		{-time.Second, 2 * time.Second, 0, -time.Second, false, true},
	} {
		s, x := new(Service), exchange("GET")
		settings := &Settings{Timeout: c.timeout}
		if c.deadline != 0 {
			x.Deadline = now.Add(c.deadline)
		}
		if c.typical > 0 {
			s.typical.add(c.typical)
		}
		allowed := settings.allowed(x, &message.Message{}, now)
		if allowed != c.allowed || s.holds(x, now) != c.holds || s.shortened(allowed, c.timeout) != c.shortened {
			t.Errorf("%+v: allowed %v, holds %v, shortened %v", c, allowed, s.holds(x, now),
				s.shortened(allowed, c.timeout))
		}
	}
}

func TestTypicalTime(t *testing.T) {
	var typical typicalTime
	for range 100 {
		typical.add(20 * time.Millisecond)
	}
	typical.add(time.Second)
	if got := typical.get(); got < 20*time.Millisecond || got > 100*time.Millisecond {
		t.Errorf("one slow response makes it %v", got)
	}
	for range 100 {
		typical.add(time.Second)
	}
	if got := typical.get(); got < 900*time.Millisecond {
		t.Errorf("slow responses make it %v", got)
	}
}

// A service is told at each attempt what is left; nothing is sent when that is nothing, and a service
// that takes longer than a short deadline is not found at fault.
func TestDeadlineOfAttempts(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	var hangs atomic.Bool
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			told <- req.Header.Get("Sluice-Timeout")
			if !hangs.Load() {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	svc := service(t, Settings{Timeout: 10 * time.Second}, address)
	send := func(deadline time.Duration, m message.Message) (Response, error) {
		x := exchange("GET")
		if deadline != 0 {
			x.Deadline = time.Now().Add(deadline)
		}
		r, err := svc.Send(context.Background(), x, &m)
		if x.Dispatched == errors.Is(err, ErrExpired) {
			t.Errorf("dispatched %v with %v", x.Dispatched, err)
		}
		return r, err
	}
	for _, c := range []struct {
		deadline, timeout time.Duration
		least, most       int
	}{
		{0, 0, 10_000, 10_000}, {0, 3 * time.Second, 3000, 3000}, {time.Minute, 0, 10_000, 10_000},
		{5 * time.Second, 0, 1, 5000},
	} {
		r, err := send(c.deadline, message.Message{Timeout: c.timeout})
		read(t, r, err)
		if ms, err := strconv.Atoi(<-told); err != nil || ms < c.least || ms > c.most {
			t.Errorf("%+v: told %d, %v", c, ms, err)
		}
	}
	if _, err := send(-time.Millisecond, message.Message{}); !errors.Is(err, ErrExpired) || len(told) > 0 {
		t.Errorf("out of time: %v, the service saw %d", err, len(told))
	}
	hangs.Store(true)
	svc.typical.nanoseconds.Store(int64(10 * time.Second))
	if _, err := send(time.Second, message.Message{}); !errors.Is(err, ErrDeadline) {
		t.Errorf("a short deadline: %v", err)
	}
	if _, err := send(0, message.Message{Timeout: 300 * time.Millisecond}); !errors.Is(err, ErrTimeout) ||
		errors.Is(err, ErrDeadline) {
		t.Errorf("a timeout: %v", err)
	}
}

func TestTellingAllocatesNothing(t *testing.T) {
	x := exchange("GET")
	x.SetClientDeadline(time.Now().Add(time.Minute))
	if n := testing.AllocsPerRun(100, func() {
		x.Begin(context.Background(), nil)
		Tell(x, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// slowClaim takes what is left of the time to note that an attempt begins.
type slowClaim struct {
	filters.Claim
	until time.Time
}

func (c *slowClaim) Valid(time.Time) bool { return true }

func (c *slowClaim) BeginAttempt(int) bool {
	<-time.After(time.Until(c.until))
	return true
}

// The time is over before a repeat begins: what became of the attempt before it is what is told, and not that
// nothing was sent.
func TestDeadlineBehindAnAttempt(t *testing.T) {
	t.Parallel()
	address := serve(t, func(_ int64, _ net.Conn, r *bufio.Reader) { http.ReadRequest(r) }) // and closes
	svc := service(t, Settings{Attempts: 1, OnReset: true, Budget: 1}, address)
	x := exchange("POST")
	x.Deadline = time.Now().Add(4 * time.Second)
	x.Logical = filters.LogicalRequest{Key: "k", Attempt: 1, Resend: true, Claim: &slowClaim{until: x.Deadline}}
	_, err := svc.Send(context.Background(), x, &message.Message{})
	if !errors.Is(err, ErrFailed) || !x.Dispatched || x.Logical.Attempt != 2 {
		t.Errorf("%v, dispatched %v, attempt %d", err, x.Dispatched, x.Logical.Attempt)
	}
}
