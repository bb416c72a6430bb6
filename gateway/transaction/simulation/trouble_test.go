package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// pause waits, or returns false when the time of trouble is over.
func pause(over <-chan struct{}, d time.Duration) bool {
	select {
	case <-over:
		return false
	case <-time.After(d):
		return true
	}
}

// crashes kills gateways and the coordinator, and starts them again.
func (w *world) crashes(over <-chan struct{}) {
	if w.plan.trouble < 0.02 {
		return
	}
	for n := 0; ; n++ {
		d := w.dice("crashes")
		if !pause(over, d.between(200*time.Millisecond, 8*time.Second)) {
			return
		}
		switch place := d.IntN(len(w.gateways) + 1); {
		case place < len(w.gateways):
			w.crash(place)
			if !pause(over, d.between(50*time.Millisecond, 6*time.Second)) {
				return
			}
			w.start(place)
		case w.plan.forgets && n > 2:
			w.plan.forgets = false
			w.dtm.crash()
			w.dtm.forget()
			w.dtm.start()
		default:
			w.dtm.crash()
			if !pause(over, d.between(50*time.Millisecond, 5*time.Second)) {
				return
			}
			w.dtm.start()
		}
	}
}

// outages takes the store and services away for a while.
func (w *world) outages(over <-chan struct{}) {
	if w.plan.trouble < 0.02 {
		return
	}
	for {
		d := w.dice("outages")
		if !pause(over, d.between(500*time.Millisecond, 10*time.Second)) {
			return
		}
		if d.chance(0.1) {
			w.forgetKey(d)
		} else if d.chance(0.5) {
			w.store.leave(d.between(10*time.Millisecond, 4*time.Second))
		} else {
			names := w.plan.names()
			w.services.takeDown(names[d.IntN(len(names))], d.between(time.Second, 12*time.Second))
		}
	}
}

// forgetKey is an operator who has a key forgotten, by force, whatever runs under it.
func (w *world) forgetKey(d dice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.Sorted(maps.Keys(w.keys))
	if len(keys) == 0 {
		return
	}
	k := w.keys[keys[d.IntN(len(keys))]]
	if ok, _ := w.store.inner.Resolve(w.background(), k.record, nil, true); ok {
		k.expired++
		w.forgotten[w.store.gids[k.record]] = true // the coordinator's delays alone say when it ends
		w.seen["keys forgotten by force"]++
		w.traceLocked("an operator has %s forgotten", k.key)
	}
}

// operator cancels transactions, at any gateway. Those of sagas have a seed's history without it.
func (w *world) operator(over <-chan struct{}) {
	for n := 0; w.plan.mode != modeSaga && n < 3; n++ {
		d := w.dice("operator")
		if !pause(over, d.between(time.Second, 20*time.Second)) {
			return
		}
		w.mu.Lock()
		list := slices.Sorted(maps.Keys(w.begun))
		g := w.gateways[d.IntN(len(w.gateways))]
		w.mu.Unlock()
		if len(list) == 0 || g == nil {
			continue
		}
		w.running.Go(func() { w.cancel(g, list[d.IntN(len(list))]) })
	}
}

func (w *world) cancel(g *gateway, gid string) {
	w.mu.Lock()
	w.cancels[gid] = true
	w.mu.Unlock()
	err := g.bridge.Cancel(w.background(), gid)
	w.trace("an operator cancels %s at %s: %v", name(gid), g.name, err)
	if err != nil && !strings.HasPrefix(err.Error(), "it is decided, and aborted") || g.isDead() {
		return
	}
	w.saw("cancelled by an operator")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancelled[gid] = true
	if w.told[gid] == "succeeded" {
		w.failLocked("an operator is told that %s is cancelled, and a client that it succeeded", name(gid))
	}
}

// thief is somebody who has read the coordinator's store, or its traffic: a do that it has called, and any
// undo, is played back.
func (w *world) thief(over <-chan struct{}) {
	for n := 0; ; n++ {
		d := w.dice("thief")
		if !pause(over, d.between(300*time.Millisecond, 5*time.Second)) {
			return
		}
		w.mu.Lock()
		var list []stolen
		for _, gid := range slices.Sorted(maps.Keys(w.dtm.calls)) {
			for _, branch := range slices.Sorted(maps.Keys(w.dtm.calls[gid])) {
				c := w.dtm.calls[gid][branch]
				if _, called := w.dtm.called[gid][branch]; called || c.op == "compensate" || c.op == "cancel" ||
					c.op == "rollback" {
					list = append(list, stolen{gid, c})
				}
			}
		}
		w.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		w.saw("signed calls played back")
		s := list[d.IntN(len(list))]
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(w.background(), dtmRequest)
			defer cancel()
			_, _ = w.deliver(ctx, fmt.Sprint("thief ", n), s.gid, s.call)
		})
	}
}

type stolen struct {
	gid string
	call
}
