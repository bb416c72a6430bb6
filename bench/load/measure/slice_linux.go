package measure

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// warmRequests are what a contender has answered on before its memory is looked at: enough to have
// its pools and pages there.
const warmRequests = 100

// Driver sends a load: each connection its next request when it has the response, or all at a fixed rate.
type Driver interface {
	Closed(context.Context, time.Duration) (Tally, error)
	Close()
}

// NewDriver opens the connections of a load.
func (b *Bench) NewDriver(r *Run, load Load) (Driver, error) {
	switch load.Protocol {
	case HTTP2, GRPC, HTTP2TLS:
		return newH2Load(r.Process.Site.Listen, load.Protocol), nil
	}
	connections := b.Options.Connections
	if r.Connections > 0 {
		connections = r.Connections
	}
	if load.Protocol == HTTPS {
		return dialTLS(r.Process.Site.Listen, connections, load)
	}
	l, err := dial(r.Process.Site.Listen, connections, newRequest(load, benchHost))
	if err != nil || load.Rate == 0 {
		return l, err
	}
	return &paced{l, load.Rate}, nil
}

// paced drives a load at a fixed rate: a gateway that waits in between costs more than one that never rests, so only
// loads at the same rate are to be compared.
type paced struct {
	*loop
	rate int
}

// Closed implements [Driver], for once by an open loop.
func (p *paced) Closed(ctx context.Context, d time.Duration) (Tally, error) {
	return p.open(ctx, d, p.rate)
}

// warm has connections and pools there before the clock is read, and for replays the responses.
func (b *Bench) warm(ctx context.Context, d Driver, load Load) error {
	t, err := d.Closed(ctx, b.Options.Duration/4)
	records := load.Keys == RecordedKeys && load.KeysFrom == 0
	for done := t.Requests; records && done < int64(cmp.Or(load.Users, users)) && err == nil; done += t.Requests {
		if t, err = d.Closed(ctx, b.Options.Duration/4); err == nil && t.Requests == 0 {
			return fmt.Errorf("measure: no responses: %s", t.First)
		}
	}
	return err
}

// Slice drives one load against one contender. What goes wrong with the contender stands in its
// figure; an error is the end of the run.
func (b *Bench) Slice(ctx context.Context, r *Run, load Load) error {
	f := r.Figure(load)
	if f.Failed != "" {
		return nil
	}
	s, t, err := b.drive(ctx, r, load)
	f.Requests += t.Requests
	f.Errors += t.Errors
	if f.FirstError == "" {
		f.FirstError = t.First
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		f.Failed = err.Error()
	case t.Requests == 0:
		f.Failed = "no responses: " + t.First
	default:
		r.samples[load] = append(r.samples[load], s)
	}
	return nil
}

// drive has one slice driven; the clocks are read while the connections are open and warm.
func (b *Bench) drive(ctx context.Context, r *Run, load Load) (s sample, t Tally, err error) {
	d, err := b.NewDriver(r, load)
	if err != nil {
		return s, t, err
	}
	defer d.Close()
	if err := b.warm(ctx, d, load); err != nil {
		return s, t, err
	}
	var before, reading, after float64
	if r.Metrics {
		if before, reading, err = mallocs(ctx, r.Process.Site.Admin); err != nil {
			return s, t, err
		}
	}
	cpuBefore, err := cpuTime(r.Process.PID())
	if err != nil {
		return s, t, err
	}
	if t, err = d.Closed(ctx, b.Options.Duration); err != nil {
		return s, t, err
	}
	cpuAfter, err := cpuTime(r.Process.PID())
	if err != nil {
		return s, t, err
	}
	if r.Metrics {
		if after, err = readMallocs(ctx, r.Process.Site.Admin); err != nil {
			return s, t, err
		}
	}
	n := float64(max(t.Requests, 1))
	return sample{
		cpuMicros: float64(cpuAfter-cpuBefore) / 1e3 / n,
		perSecond: float64(t.Requests) / t.Elapsed.Seconds(),
		mallocs:   (after - before - reading) / n,
	}, t, nil
}

// OpenLoop measures the latency of a load at the fixed rate. What goes wrong with the contender
// stands in its result.
func (b *Bench) OpenLoop(ctx context.Context, r *Run, load Load) error {
	if r.Result.Latency != nil {
		return nil // given up
	}
	l, err := dial(r.Process.Site.Listen, b.Options.Connections, newRequest(load, benchHost))
	if err == nil {
		defer l.Close()
		// Connections and pools are warm before the first request that counts.
		_, err = l.Closed(ctx, b.Options.Duration/20)
	}
	var t Tally
	if err == nil {
		t, err = l.open(ctx, b.Options.Duration, b.Options.Rate)
	}
	r.latencies = append(r.latencies, t)
	if err != nil && ctx.Err() == nil {
		r.Result.Latency = &Latency{Failed: err.Error(), Errors: t.Errors, FirstError: t.First}
	}
	return ctx.Err()
}

// Open sends a load at a fixed rate for so long and returns what was found, with every latency.
func (b *Bench) Open(ctx context.Context, r *Run, load Load, rate int, d time.Duration) (Tally, error) {
	l, err := dial(r.Process.Site.Listen, b.Options.Connections, newRequest(load, benchHost))
	if err != nil {
		return Tally{}, err
	}
	defer l.Close()
	if _, err := l.Closed(ctx, d/20); err != nil {
		return Tally{}, err
	}
	return l.open(ctx, d, rate)
}

// Hold opens connections to a contender, sends one request on each, and calls f while they are idle.
func (b *Bench) Hold(ctx context.Context, r *Run, load Load, connections int, f func() error) error {
	return askOnce(ctx, r.Process.Site.Listen, connections, load, f)
}

// IdleBytes returns what a connection costs a process that has done nothing else yet, where it idles
// after one request of a load.
func (b *Bench) IdleBytes(ctx context.Context, p *Process, load Load) (float64, error) {
	for range warmRequests {
		if err := askOnce(ctx, p.Site.Listen, 1, load, func() error { return nil }); err != nil {
			return 0, err
		}
	}
	before, err := QuietMemory(ctx, p.PID())
	if err != nil {
		return 0, err
	}
	var after int64
	err = askOnce(ctx, p.Site.Listen, b.Options.IdleConnections, load, func() (err error) {
		after, err = QuietMemory(ctx, p.PID())
		return err
	})
	return float64(after-before) / float64(b.Options.IdleConnections), err
}

// askOnce opens connections, sends one request on each and then calls f while they are idle.
func askOnce(ctx context.Context, address string, connections int, load Load, f func() error) error {
	var l interface {
		one(context.Context) error
		Close()
	}
	var err error
	if load.Protocol == HTTPS {
		l, err = dialTLS(address, connections, load)
	} else {
		l, err = dial(address, connections, newRequest(load, benchHost))
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.one(ctx); err != nil {
		return err
	}
	return f()
}

const (
	quietEvery = 200 * time.Millisecond
	quietLimit = 5 * time.Second
)

// QuietMemory returns a process' memory when two readings in a row are the same but for a
// hundredth, or the last one at the limit.
func QuietMemory(ctx context.Context, pid int) (int64, error) {
	last, err := memory(pid)
	for waited := time.Duration(0); err == nil && waited < quietLimit; waited += quietEvery {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(quietEvery):
		}
		var now int64
		if now, err = memory(pid); err != nil {
			return 0, err
		}
		if difference := now - last; max(difference, -difference) < now/100 {
			return now, nil
		}
		last = now
	}
	return last, err
}
