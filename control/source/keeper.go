package source

import (
	"log/slog"
	"sync"
	"time"
)

// keepEvery bounds how often the last good configuration is written: endpoints can change all the time.
const keepEvery = time.Second

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

func (k *keeper) failed(what string, err error) {
	k.mu.Lock()
	k.fault = err.Error()
	k.faults++
	k.mu.Unlock()
	k.logger.Error(what, "folder", k.disk.dir, "error", err)
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
	defer k.write()
	pause := time.NewTimer(keepEvery)
	defer pause.Stop()
	for {
		select {
		case <-k.ending:
			return
		case <-k.wake:
		}
		k.write()
		pause.Reset(keepEvery)
		select {
		case <-k.ending:
			return
		case <-pause.C:
		}
	}
}

// write writes what waits.
func (k *keeper) write() {
	k.mu.Lock()
	g := k.next
	k.next = nil
	k.mu.Unlock()
	if g == nil {
		return
	}
	if err := k.disk.keep(g); err != nil {
		k.failed("the last good configuration cannot be written; the gateway goes on", err)
		return
	}
	k.written(g.Version)
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
