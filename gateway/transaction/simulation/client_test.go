package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// keyBook is what is known of one key of one client.
type keyBook struct {
	key, principal, record string
	gids                   map[string]bool // that clients were told of
	expired                int             // how often it was used when its record had expired, at most
}

func (w *world) background() context.Context { return context.Background() }

func (w *world) client(who string) {
	for i := range w.plan.each {
		d := w.dice(who)
		time.Sleep(d.between(0, 4*time.Second))
		key := fmt.Sprintf("%s-%d", who, i)
		if d.chance(0.2) && i > 0 { // an old one
			key = fmt.Sprintf("%s-%d", who, d.IntN(i))
		}
		w.order(fmt.Sprintf("%s order %d", who, i), who, key)
	}
}

// order sends a request until it has a final answer, or for as long as the client has patience.
func (w *world) order(label, who, key string) {
	for range 5 {
		d := w.dice(label)
		if d.chance(0.2) { // it, or a balancer before the gateways, sends it twice
			after, place := d.between(time.Microsecond, 3*time.Second), d.IntN(len(w.gateways))
			w.running.Go(func() {
				time.Sleep(after)
				w.ask(label+" once more", who, key, place)
			})
		}
		reply := w.ask(label, who, key, d.IntN(len(w.gateways)))
		if reply.final && d.chance(0.8) {
			return
		}
		if reply.gid != "" {
			w.watch(label, who, reply.gid, d)
		}
		time.Sleep(d.between(10*time.Millisecond, 12*time.Second))
	}
}

// watch looks at the status resource for a while.
func (w *world) watch(label, who, gid string, d dice) {
	for range d.IntN(4) {
		g := w.gateway(d.IntN(len(w.gateways)))
		if g == nil {
			return
		}
		wait := d.between(0, 4*time.Second)
		done := make(chan struct{})
		w.running.Go(func() {
			defer close(done)
			v, found, err := g.bridge.Status(w.background(), gid, "checkout", who)
			if err != nil || !found {
				return
			}
			v = g.bridge.Await(w.background(), v, wait)
			w.mu.Lock()
			defer w.mu.Unlock()
			if !g.isDead() && v.State.Final() {
				w.tellLocked(gid, string(v.State), label+" (status)")
			}
		})
		select {
		case <-done:
		case <-g.dead:
			return
		}
	}
}

// reply is what a client gets.
type reply struct {
	status int
	reason filters.Reason
	gid    string
	final  bool
}

// ask sends one request to a gateway.
func (w *world) ask(label, who, key string, place int) reply {
	g := w.gateway(place)
	if g == nil {
		return reply{}
	}
	k, began := w.keyOf(who, key), time.Now()
	w.trace("%s asks %s", label, g.name)
	got := make(chan reply, 1)
	w.running.Go(func() {
		x := new(filters.Exchange)
		x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(`{"qty":1}`), nil })
		x.Method, x.Path, x.Route, x.Principal, x.Received = "POST", "/v1/checkouts", "checkout", who, time.Now()
		x.Header.Add("Idempotency-Key", key)
		outcome := filters.Refused
		if refused, _ := g.chain.Request(x); refused != nil {
			x.SetReply(refused)
		} else {
			outcome = g.target.Execute(x)
		}
		g.chain.Response(x)
		r := reply{status: x.Response.Status, reason: x.Response.Reason}
		body := []byte(string(x.Response.Body))
		replayed := x.Response.Header.Get("Idempotent-Replayed") == "true"
		g.chain.Done(x, outcome)
		w.mu.Lock()
		if !g.isDead() {
			w.judgeReplyLocked(label, k, &r, body, replayed, began)
		}
		w.mu.Unlock()
		got <- r
	})
	select {
	case r := <-got:
		return r
	case <-g.dead:
		return reply{}
	}
}

// judgeReplyLocked reads what a client got and judges it.
func (w *world) judgeReplyLocked(label string, k *keyBook, r *reply, body []byte, replayed bool,
	began time.Time) {
	var v struct {
		ID     string         `json:"id"`
		State  string         `json:"state"`
		Reason filters.Reason `json:"reason"`
	}
	_ = json.Unmarshal(body, &v)
	r.reason = v.Reason // a replay's response has none
	w.traceLocked("%s gets %d %s %s %s", label, r.status, r.reason, name(v.ID), v.State)
	w.seen[fmt.Sprintf("responses %d %s", r.status, r.reason)]++
	switch {
	case r.status == 200 || r.reason == filters.TransactionFailed:
		r.gid, r.final = v.ID, true
		if k.gids[v.ID] && w.told[v.ID] == "succeeded" && r.status != 200 {
			w.failLocked("%s: %s was told as succeeded", label, name(v.ID))
		}
		k.gids[v.ID] = true
		w.tellLocked(v.ID, v.State, label)
		if end := w.recorded[v.ID]; !replayed && !end.IsZero() && end.Before(began) && !w.forgotten[v.ID] {
			w.failLocked("%s is given %s for its own, which ended %v before it began", label, name(v.ID),
				began.Sub(end))
		}
	case r.status == 202:
		r.gid = v.ID
		k.gids[v.ID] = true
	case r.reason == filters.CoordinatorUnavailable, r.reason == filters.StoreUnavailable,
		r.reason == filters.RequestInProgress, r.reason == filters.OutcomeUnknown:
	default:
		w.failLocked("%s gets %d %s: %s", label, r.status, r.reason, strings.TrimSpace(string(body)))
	}
}

// keyOf returns the book of a key, made on first sight.
func (w *world) keyOf(who, key string) *keyBook {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.keys[who+"/"+key]
	if k == nil {
		k = &keyBook{key: key, principal: who, gids: map[string]bool{}, record: recordOf(who, key)}
		w.keys[who+"/"+key] = k
	}
	if w.plan.ttl < time.Minute {
		k.expired++ // it may have been
	}
	return k
}

// recordOf returns the ID of the record of a key.
func recordOf(who, key string) string {
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(`{"qty":1}`), nil })
	x.Method, x.Path, x.Route, x.Principal = "POST", "/v1/checkouts", "checkout", who
	x.Header.Add("Idempotency-Key", key)
	s := routeSettings(time.Hour)
	_, id, _, refused := s.Inspect(x)
	if refused != nil {
		panic(refused.Reason)
	}
	return strings.Clone(id)
}
