package openloop

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Runner carries out one profile. It is safe for concurrent use; Run is called once.
type Runner struct {
	p        Profile
	balancer *balancer
	began    time.Time
	inFlight atomic.Int64
	senders  sync.WaitGroup

	mu      sync.Mutex
	retries arrivals
	wake    chan struct{} // of capacity 1: a retry is due earlier than the others
	result  Result
	reasons map[string]uint16
	count   Count
}

// New returns a runner that sends to addresses, host:port, in turn.
func New(p Profile, addresses []string) (*Runner, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, errors.New("openloop: no address to send to")
	}
	if p.InFlightMax == 0 {
		p.InFlightMax = inFlightMax
	}
	return &Runner{p: p, balancer: newBalancer(addresses), wake: make(chan struct{}, 1),
		reasons: map[string]uint16{"": 0}, result: Result{Reasons: []string{""}}}, nil
}

// Count returns how far the run is.
func (r *Runner) Count() Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.count
	c.InFlight = r.inFlight.Load()
	return c
}

// Run sends what is due until all of it is done, and returns what came of it. When ctx ends it
// sends no more and breaks off what is in flight; the error is then that of ctx.
func (r *Runner) Run(ctx context.Context) (*Result, error) {
	r.began = time.Now()
	r.result.Began = r.began
	source := newSource(&r.p)
	due, ok := source.next()
	for ctx.Err() == nil {
		now := time.Since(r.began)
		sent := 0
		for ; ok && due.At <= now; due, ok = source.next() {
			r.dispatch(ctx, due, now, sent == 0)
			sent++
		}
		r.resend(ctx, now)
		if !ok && r.quiet() {
			break
		}
		r.sleep(ctx, due.At, ok)
	}
	r.senders.Wait()
	r.balancer.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Logicals = source.logical
	return &r.result, ctx.Err()
}

// quiet tells that nothing is in flight or waits to be sent again. The order counts: a request asks
// for its retry before it leaves.
func (r *Runner) quiet() bool {
	if r.inFlight.Load() > 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.retries) == 0
}

// dispatch sends an arrival.
func (r *Runner) dispatch(ctx context.Context, a Arrival, now time.Duration, first bool) {
	if first {
		r.mu.Lock()
		r.result.Late = append(r.result.Late, now-a.At)
		r.mu.Unlock()
	}
	if r.inFlight.Load() >= int64(r.p.InFlightMax) {
		r.add(a, Sample{Outcome: Unsent, Final: true}, nil)
		return
	}
	r.inFlight.Add(1)
	r.senders.Go(func() {
		defer r.inFlight.Add(-1)
		r.send(ctx, a)
	})
}

// resend sends the retries that are due.
func (r *Runner) resend(ctx context.Context, now time.Duration) {
	for {
		r.mu.Lock()
		if len(r.retries) == 0 || r.retries[0].At > now {
			r.mu.Unlock()
			return
		}
		a := heap.Pop(&r.retries).(Arrival)
		r.mu.Unlock()
		r.dispatch(ctx, a, now, false)
	}
}

// idlePause is how long the dispatcher sleeps at most: then it looks whether the run is over.
const idlePause = 20 * time.Millisecond

func (r *Runner) sleep(ctx context.Context, next time.Duration, more bool) {
	until := time.Since(r.began) + idlePause
	if more {
		until = min(until, next)
	}
	r.mu.Lock()
	if len(r.retries) > 0 {
		until = min(until, r.retries[0].At)
	}
	r.mu.Unlock()
	t := time.NewTimer(until - time.Since(r.began))
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.wake:
	case <-ctx.Done():
	}
}

// send sends one arrival and sees to what follows.
func (r *Runner) send(ctx context.Context, a Arrival) {
	k := &r.p.Kinds[a.Kind]
	timeout := k.Timeout
	if a.Slow {
		timeout += slowPieces * slowPause
	}
	resp, err := r.balancer.do(ctx, func(host string) []byte { return wire(k, &a, host) }, a.Slow,
		r.began.Add(a.At+timeout))
	s := Sample{Latency: time.Since(r.began) - a.At}
	s.Outcome = outcomeOf(resp.Status, err)
	if err == nil {
		s.Status = uint16(resp.Status)
	}
	s.Final = !retried(s.Outcome, resp.Reason) || a.Attempt >= a.Retries || ctx.Err() != nil
	r.add(a, s, &resp)
	if !s.Final {
		r.retry(a, s, resp.RetryAfter)
	}
}

// retried tells which outcomes a client tries again.
func retried(o Outcome, reason string) bool {
	switch o {
	case Shed, Failed, TimedOut, Broken:
		return true
	case Refused:
		return reason == "request-in-progress"
	}
	return false
}

const (
	retryPause = 100 * time.Millisecond
	heedsMax   = 10 * time.Second // nobody waits for longer
)

// retry has the client try again: when Retry-After says, or after a tenth of a second by a client
// that does not heed it, and by all where the response says nothing.
func (r *Runner) retry(a Arrival, s Sample, after time.Duration) {
	pause := retryPause
	if a.Heeds && after > 0 {
		pause = min(after, heedsMax)
	}
	a.At += s.Latency + pause
	a.Attempt++
	r.mu.Lock()
	heap.Push(&r.retries, a)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func outcomeOf(status int, err error) Outcome {
	if errors.Is(err, errLate) {
		return Unsent
	}
	if err != nil {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return TimedOut
		}
		return Broken
	}
	switch {
	case status/100 == 2:
		return Succeeded
	case status == 429 || status == 503:
		return Shed
	case status < 500 && status != 408 && status != 425:
		return Refused
	}
	return Failed
}

// add records a sample.
func (r *Runner) add(a Arrival, s Sample, resp *Response) {
	s.At, s.Kind, s.Attempt = a.At, uint8(a.Kind), uint8(a.Attempt)
	s.Repeat, s.Other, s.Slow = a.Repeat, a.Other, a.Slow
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Sent++
	switch s.Outcome {
	case Succeeded:
		r.count.Succeeded++
	case Shed:
		r.count.Shed++
	case Failed, TimedOut, Broken, Unsent:
		r.count.Failed++
	}
	if resp != nil && resp.Reason != "" {
		s.Reason = r.reasonLocked(resp.Reason)
	}
	r.result.Samples = append(r.result.Samples, s)
	if a.Key != "" && s.Outcome == Succeeded {
		r.result.Bought = append(r.result.Bought, Bought{Logical: a.Logical, At: a.At, Kind: a.Kind,
			Status: resp.Status, User: a.User, Item: a.Item, ID: idOf(resp.Body), Replayed: resp.Replayed,
			Other: a.Other})
	}
}

const reasonsMax = 1000

func (r *Runner) reasonLocked(reason string) uint16 {
	i, ok := r.reasons[reason]
	if !ok && len(r.reasons) < reasonsMax {
		i = uint16(len(r.result.Reasons))
		r.reasons[reason] = i
		r.result.Reasons = append(r.result.Reasons, reason)
	}
	return i
}

// idOf returns the member id of a JSON body.
func idOf(body []byte) string {
	var record struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(body, &record) != nil {
		return "" // a longer body is cut off, and none of ours is
	}
	return record.ID
}

// wire is an arrival as it is sent.
func wire(k *Kind, a *Arrival, host string) []byte {
	var b bytes.Buffer
	b.Grow(256 + len(a.Body))
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nX-User: %s\r\n", k.Method, a.Path, host, a.User)
	if a.Key != "" {
		fmt.Fprintf(&b, "Idempotency-Key: \"%s\"\r\n", a.Key)
	}
	if a.Body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(a.Body))
	}
	b.WriteString("\r\n")
	b.WriteString(a.Body)
	return b.Bytes()
}
