package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// sendDue begins the attempts whose time has come, the oldest first, as many as each receiver may have at once.
// It returns when the next one is due, at the latest the given time.
func (n *Notifier) sendDue(ctx context.Context, now, latest time.Time) (next time.Time) {
	due, next := n.due(now, latest)
	for _, t := range due {
		r, ok := n.o.Receiver(t.route)
		if !n.begin(t, r.URL) {
			continue
		}
		n.running.Go(func() {
			next, over := n.attempt(context.WithoutCancel(ctx), t, r, ok)
			n.end(t, r.URL, next, over)
		})
	}
	return next
}

func (n *Notifier) due(now, latest time.Time) (list []*notice, next time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next = latest
	for _, t := range n.pending {
		switch {
		case t.sending:
		case !now.Before(t.due):
			list = append(list, t)
		case t.due.Before(next):
			next = t.due
		}
	}
	slices.SortFunc(list, func(a, b *notice) int { return a.due.Compare(b.due) })
	return list, next
}

// begin reports whether the receiver may have one attempt more, and notes that it has.
func (n *Notifier) begin(t *notice, receiver string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inFlight[receiver] >= inFlightMax {
		return false
	}
	t.sending = true
	n.inFlight[receiver]++
	return true
}

func (n *Notifier) end(t *notice, receiver string, next time.Time, over bool) {
	defer n.wake() // another one of the receiver may be waiting
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inFlight[receiver]--; n.inFlight[receiver] == 0 {
		delete(n.inFlight, receiver)
	}
	t.sending, t.body, t.due = false, nil, next
	if over {
		delete(n.pending, t.gid)
	}
}

// attempt sends a notice once, unless another gateway does. over: there is nothing more to send; else next is when to
// look again.
func (n *Notifier) attempt(ctx context.Context, t *notice, r Receiver, configured bool) (next time.Time, over bool) {
	again := time.Now().Add(jitter(searchAgain, t.gid, 0))
	rec, ok, err := n.o.Store.Get(ctx, noticeRecord(t.gid))
	switch {
	case err != nil:
		return again, false
	case !ok || rec.State != idempotency.Answered: // delivered; or not ended, which a search finds out
		return again, true
	case !configured:
		n.o.Logger.Warn("transaction: its end is not told, since notify is not configured any more", "gid", t.gid,
			"route", t.route)
		return n.remove(ctx, t.gid, again)
	}
	if t.body == nil {
		response, err := n.o.Codec.Open(rec.ID, rec.Response)
		if err != nil {
			n.o.Logger.Error("transaction: its end is not told, since the record cannot be read", "gid", t.gid,
				"error", err)
			return n.remove(ctx, t.gid, again)
		}
		t.body = response.Body
	}
	ended := rec.Expires.Add(-rec.TTL)
	claim := idempotency.ClaimRequest{
		ID: deliveryRecord(t.gid), Token: newToken(), Route: deliveryRoute(t.route), Principal: rec.Principal,
		ClientKey: t.gid, Lease: leaseMax, Cap: life, TTL: life, Retry: true,
	}
	delivery, claimed, err := n.o.Store.Claim(ctx, claim)
	switch {
	case err != nil:
		return again, false
	case !claimed && delivery.State == idempotency.Answered: // the one that delivered it died before it removed it
		return n.remove(ctx, t.gid, again)
	case !claimed: // another gateway sends it, or waits
		return delivery.LeaseUntil.Add(jitter(searchAgain, t.gid, 0)), false
	case time.Since(ended) >= tryFor:
		n.o.Metrics.GivenUp.Inc()
		n.o.Logger.Error("transaction: its end could not be told within 24 hours and is given up", "gid", t.gid,
			"route", t.route, "attempts", delivery.Attempt-1)
		return n.remove(ctx, t.gid, again)
	}
	err = n.post(ctx, t, r, delivery.Attempt)
	if err != nil {
		n.o.Metrics.Failed.Inc()
		delay := delayAfter(t.gid, delivery.Attempt)
		n.failures.Warn(n.o.Logger, time.Now(), "transaction: its end was not taken by the receiver; it is told again",
			"gid", t.gid, "route", t.route, "host", hostOf(r.URL), "attempt", delivery.Attempt, "again_in", delay,
			"error", err)
		// The lease is the delay: no gateway tries before.
		_ = n.o.Store.Change(ctx, claim.ID, claim.Token, idempotency.Change{Op: idempotency.Renew, Lease: delay})
		return time.Now().Add(delay), false
	}
	n.o.Metrics.Delivered.Inc()
	done := n.o.Codec.Append(nil, claim.ID, &idempotency.Response{Status: http.StatusOK, Replayable: true})
	_ = n.o.Store.Change(ctx, claim.ID, claim.Token, idempotency.Change{Op: idempotency.Finish, Response: done})
	return n.remove(ctx, t.gid, again)
}

// remove ends a notice.
func (n *Notifier) remove(ctx context.Context, gid string, again time.Time) (next time.Time, over bool) {
	_, err := n.o.Store.Resolve(ctx, noticeRecord(gid), nil, true)
	return again, err == nil
}

// post makes one attempt; nil: the receiver has it.
func (n *Notifier) post(ctx context.Context, t *notice, to Receiver, attempt int) error {
	ctx, cancel := context.WithTimeout(ctx, attemptMax)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(t.body))
	if err != nil {
		return err
	}
	r.GetBody = nil // an attempt is one request
	for _, f := range [...][2]string{
		{"Content-Type", "application/json"}, {"User-Agent", "sluice"}, {"Sluice-Transaction", t.gid},
		{"Sluice-Attempt", strconv.Itoa(attempt)}, {SignatureHeader, Sign(to.Secret, t.body, time.Now())},
	} {
		r.Header.Set(f[0], f[1])
	}
	client := n.public
	if to.Private {
		client = n.inside
	}
	resp, err := client.Do(r)
	if err != nil {
		var failed *url.Error // has the URL in its text, which may have a secret in it
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection may be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// delayAfter returns how long to wait after that attempt.
func delayAfter(gid string, attempt int) time.Duration {
	return jitter(min(delayFirst<<min(attempt-1, 20), delayMax), gid, attempt)
}

// jitter returns a delay in the upper half of d, another one for each transaction and attempt, so that what failed at
// once does not come again at once. It is no random number: the simulator has to see the same one again.
func jitter(d time.Duration, gid string, attempt int) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(gid)) // it does not fail
	_, _ = h.Write([]byte{byte(attempt)})
	return d/2 + time.Duration(h.Sum64()%uint64(d/2))
}
