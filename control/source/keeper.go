package source

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// keepEvery bounds how often the last good configuration is written: endpoints can change all the time.
	keepEvery = time.Second
	// keepAgain is when a write that failed is tried again: a disk that was full may have room.
	keepAgain = 10 * time.Second
)

// keeper writes the last good configuration in the background. Of several the last one is written.
type keeper struct {
	disk   lastGood
	logger *slog.Logger
	wake   chan struct{} // has room for one
	ending chan struct{} // closed by close
	done   chan struct{} // the writer has ended

	mu     sync.Mutex
	next   *good
	fault  string // of the last write or of the read; empty: none
	faults int
	told   string // which failure was logged last
	toldAt time.Time
	kept   string // the version that was written last
}

// newKeeper returns a keeper over a folder that it makes. What it cannot do it tells; the gateway goes on without.
func newKeeper(disk lastGood, logger *slog.Logger) *keeper {
	k := &keeper{
		disk: disk, logger: logger, wake: make(chan struct{}, 1),
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	if err := disk.open(); err != nil {
		k.failed("the folder of the last good configuration cannot be used", err)
	}
	go k.run()
	return k
}

// read returns what was kept; nil: nothing that can be used, which is told.
func (k *keeper) read() *good {
	g, err := k.disk.read()
	if err != nil {
		k.failed("the last good configuration on disk is ignored", err)
	}
	return g
}

// failed notes a failure. One of a kind is told once a minute.
func (k *keeper) failed(what string, err error) {
	if k.note(what, err, time.Now()) {
		k.logger.Error(what, "folder", k.disk.dir, "error", err)
	}
}

func (k *keeper) note(what string, err error, now time.Time) (tell bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	tell = k.fault == "" || what != k.told || now.Sub(k.toldAt) >= time.Minute
	k.fault = err.Error()
	k.faults++
	if tell {
		k.told, k.toldAt = what, now
	}
	return tell
}

// keep has a configuration written soon. It does not wait.
func (k *keeper) keep(g *good) {
	k.mu.Lock()
	k.next = g
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// close writes what waits and ends.
func (k *keeper) close() {
	close(k.ending)
	<-k.done
}

func (k *keeper) run() {
	defer close(k.done)
	defer func() { k.write() }() // the last time: what fails is told
	pause := time.NewTimer(keepEvery)
	defer pause.Stop()
	var again <-chan time.Time // nil: the last write has not failed
	for {
		select {
		case <-k.ending:
			return
		case <-k.wake:
		case <-again:
		}
		again = nil
		if !k.write() {
			again = time.After(keepAgain)
		}
		pause.Reset(keepEvery)
		select {
		case <-k.ending:
			return
		case <-pause.C:
		}
	}
}

// write writes what waits. Where that fails it waits on, unless something newer does.
func (k *keeper) write() (done bool) {
	k.mu.Lock()
	g := k.next
	k.next = nil
	k.mu.Unlock()
	if g == nil {
		return true
	}
	if err := k.disk.keep(g); err != nil {
		k.putBack(g)
		k.failed("the last good configuration cannot be written; the gateway goes on", err)
		return false
	}
	k.written(g.Version)
	return true
}

func (k *keeper) putBack(g *good) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next == nil {
		k.next = g
	}
}

func (k *keeper) written(version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept, k.fault = version, ""
}

// state returns the version that is on disk, as far as this process has written it, why the last step failed, and how
// many did.
func (k *keeper) state() (kept, fault string, faults int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept, k.fault, k.faults
}
