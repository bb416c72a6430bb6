package transaction

import (
	"context"
	"sync"
	"time"
)

// watches let all who wait for a transaction in this process share its queries: one poll a
// transaction, however many clients watch it. A poll comes 20 ms after the first watcher, then after
// twice as long each time, a second at most, and soon again when the state has changed or a branch
// was called here.
//
// The zero value is ready; it is safe for concurrent use. There is one entry, and one goroutine, for
// each transaction that somebody watches.
type watches struct {
	mu    sync.Mutex
	byGID map[string]*watch
}

const (
	pollFirst = 20 * time.Millisecond
	pollMost  = time.Second
)

// watch is what is known of a watched transaction.
type watch struct {
	gid      string
	route    string
	watchers int           // guarded by watches.mu, as are view and changed
	view     View          // the last one
	changed  chan struct{} // closed when there is another
	soon     chan struct{} // capacity 1: poll soon
	stop     context.CancelFunc
}

// watch begins to watch; leave ends it. v is what the caller knows already.
func (b *Bridge) watch(v View) *watch {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	w := b.watches.byGID[v.ID]
	if w == nil {
		ctx, stop := context.WithCancel(context.Background())
		w = &watch{
			gid: v.ID, route: v.route, view: v, changed: make(chan struct{}), soon: make(chan struct{}, 1), stop: stop,
		}
		if b.watches.byGID == nil {
			b.watches.byGID = map[string]*watch{}
		}
		b.watches.byGID[v.ID] = w
		b.background.Go(func() { b.poll(ctx, w) })
	}
	w.watchers++
	if v.State.Final() {
		w.publishLocked(v)
	}
	return w
}

func (b *Bridge) leave(w *watch) {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	if w.watchers--; w.watchers == 0 {
		w.stop()
		delete(b.watches.byGID, w.gid)
	}
}

// last returns the last view, and a channel that is closed when there is another.
func (b *Bridge) last(w *watch) (View, <-chan struct{}) {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	return w.view, w.changed
}

// pollSoon is called when something has happened to a transaction.
func (b *Bridge) pollSoon(gid string) {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	if w := b.watches.byGID[gid]; w != nil {
		select {
		case w.soon <- struct{}{}:
		default: // that is asked already
		}
	}
}

// poll queries a transaction until it has ended or nobody watches it any more.
func (b *Bridge) poll(ctx context.Context, w *watch) {
	pause := pollFirst
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.soon: // the coordinator needs a moment to write down what a branch has answered
			if !sleep(ctx, pollFirst) {
				return
			}
			pause = pollFirst
		case <-ctx.Done():
			return
		}
		v, found, err := b.Show(ctx, w.gid)
		if err == nil && !found { // its key may be free again
			v, found, err = b.neverBegun(ctx, w.gid, w.route, "")
		}
		switch {
		case err != nil || !found || ctx.Err() != nil:
			pause = min(2*pause, pollMost)
		case b.publish(w, v):
			pause = pollFirst
		default:
			pause = min(2*pause, pollMost)
		}
		if v.State.Final() && found && err == nil {
			return
		}
		timer.Reset(pause)
	}
}

// publish gives a view to the watchers. False: they have it.
func (b *Bridge) publish(w *watch, v View) bool {
	b.watches.mu.Lock()
	defer b.watches.mu.Unlock()
	return w.publishLocked(v)
}

func (w *watch) publishLocked(v View) bool {
	if v.equal(&w.view) || w.view.State.Final() {
		return false
	}
	w.view = v
	close(w.changed)
	w.changed = make(chan struct{})
	return true
}
