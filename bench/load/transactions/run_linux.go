package transactions

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Run measures every pair of stores. A pair that cannot be had is reported as missing; an error is returned when
// nothing could be measured at all, or ctx ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, fmt.Errorf("transactions: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // MariaDB's user has to get to its folder
		return nil, err
	}
	report := &Report{At: time.Now().UTC(), Processors: runtime.NumCPU(), Duration: o.Duration, Rounds: o.Rounds}
	var plan measure.Plan
	measured := 0
	for i, p := range pairs {
		if o.Only != nil && !o.Only.MatchString(p.String()) {
			continue
		}
		found := &PairResult{Name: p.String()}
		report.Pairs = append(report.Pairs, found)
		r := &run{o: &o, found: found, world: &world{pair: p, dir: fmt.Sprintf("%s/%d", dir, i),
			services: map[int]*measure.Process{}}}
		defer r.world.stop()
		r.plan(&plan, &measured)
	}
	if len(report.Pairs) == 0 {
		return nil, fmt.Errorf("transactions: --only %q matches no pair of stores", o.Only)
	}
	if err := plan.Run(ctx, o.Progress, o.Terminal); err != nil {
		return nil, err
	}
	if measured == 0 {
		return nil, fmt.Errorf("transactions: nothing could be measured; %s: %s", report.Pairs[0].Name,
			report.Pairs[0].Missing)
	}
	for _, p := range report.Pairs {
		for _, c := range p.Cells {
			c.settle()
		}
	}
	report.judge(o.Quick)
	return report, nil
}

// run is that of one pair.
type run struct {
	o     *Options
	found *PairResult
	world *world

	sagas, queries, calls, branches float64 // through the gateway
}

// plan adds what is done with the pair: it runs alone, so that nothing that idles beside it costs it anything.
func (r *run) plan(p *measure.Plan, measured *int) {
	name := r.world.pair.String()
	p.Add(name+", start", name, func(ctx context.Context) error {
		err := r.world.startAll(ctx, r.o)
		if err != nil && ctx.Err() == nil {
			r.found.Missing = measure.OneLine(err)
			r.world.stop()
			return nil
		}
		*measured++
		return err
	})
	for _, n := range append([]int{0}, r.o.Statements...) {
		for _, callers := range r.o.Callers {
			if n > 0 && callers != slices.Max(r.o.Callers) {
				continue
			}
			c := &Cell{Statements: n, Callers: callers, Gateway: &Side{}, ByHand: &Side{}}
			r.found.Cells = append(r.found.Cells, c)
		}
	}
	for round := range r.o.Rounds + 1 { // the first is for warming up
		what := fmt.Sprintf("%s, round %d of %d", name, round, r.o.Rounds)
		for _, c := range r.found.Cells {
			for i := range sides {
				side := sides[(i+round)%len(sides)]
				p.Add(what, c.title()+", "+side, func(ctx context.Context) error {
					return r.slice(ctx, c, side, round > 0)
				})
			}
		}
	}
	p.Add(name+", stop", name, func(context.Context) error { r.end(); return nil })
}

// end settles what was counted and stops the processes.
func (r *run) end() {
	if r.sagas > 0 {
		queries, calls, inARow := r.queries/r.sagas, r.calls/r.sagas, (r.calls-r.branches)/r.sagas
		r.found.Queries, r.found.Calls, r.found.InARow = &queries, &calls, &inARow
	}
	if r.found.Missing == "" {
		r.world.stop()
	}
	r.world.parts = nil
}

// slice drives one side for a while. What goes wrong with a saga is counted.
func (r *run) slice(ctx context.Context, c *Cell, side string, counts bool) error {
	if r.found.Missing != "" {
		return nil
	}
	of := c.ByHand
	if side == byGateway {
		of = c.Gateway
	}
	call, err := r.caller(c, side)
	if err != nil {
		return err
	}
	d := r.o.Duration
	if !counts {
		d = min(d, time.Second)
	}
	stop := func() {}
	if side == byGateway && counts && r.o.Profile != "" {
		stop = r.profile(ctx, d)
	}
	countedBefore, err := r.settledCounts(ctx)
	if err != nil {
		return err
	}
	before, err := r.cpu()
	if err != nil {
		return err
	}
	t := drive(ctx, d, c.Callers, call)
	after, err := r.cpu()
	stop()
	if err != nil || ctx.Err() != nil || !counts {
		return err
	}
	counted, err := r.settledCounts(ctx)
	if err != nil {
		return err
	}
	of.Sagas += len(t.micros)
	of.Errors += t.errors
	if of.First == "" {
		of.First = t.first
	}
	if n := float64(len(t.micros)); n > 0 {
		of.rounds = append(of.rounds, t.slice(n, before, after))
		if side == byGateway {
			r.sagas += n
			r.queries += counted.queries - countedBefore.queries
			r.calls += counted.calls - countedBefore.calls
			r.branches += counted.branches - countedBefore.branches
		}
	}
	return nil
}

// counts are what coordinator and gateway have counted since they were started.
type counts struct{ queries, calls, branches float64 }

// settledCounts returns the counts when they do not change any more: ends are written behind the last response.
func (r *run) settledCounts(ctx context.Context) (last counts, err error) {
	const pause, most = 30 * time.Millisecond, 100
	for i := range most {
		now, err := r.counts(ctx)
		if err != nil || i > 0 && now == last {
			return now, err
		}
		last = now
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
	return last, nil
}

func (r *run) counts(ctx context.Context) (c counts, err error) {
	text, err := fetch(ctx, "http://"+r.world.dtm.Listen+"/api/metrics")
	if err != nil {
		return c, err
	}
	c.queries = sum(text, `dtm_server_process_total{`, `api="query"`)
	if text, err = fetch(ctx, "http://"+r.world.gateway.Admin+"/metrics"); err != nil {
		return c, err
	}
	c.calls = sum(text, `sluice_store_duration_seconds_count{`, "")
	c.branches = sum(text, "sluice_transaction_branch_calls_total ", "") +
		sum(text, "sluice_transaction_events_total{", `"branch-call"`) // of a gateway before this one
	return c, nil
}

// cpu returns the CPU time that each process has used.
func (r *run) cpu() (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, p := range r.world.parts {
		of, err := measure.CPUTime(p.PID())
		if err != nil {
			return nil, err
		}
		used[p.name] += of
	}
	var err error
	used["caller"], err = measure.OwnCPUTime()
	return used, err
}

// sum adds up the samples whose lines begin with prefix and have part in their labels.
func sum(text, prefix, part string) (total float64) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) && strings.Contains(line, part) {
			fields := strings.Fields(line)
			if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
				total += v
			}
		}
	}
	return total
}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("transactions: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("transactions: %s: %s", url, resp.Status)
	}
	return string(text), err
}

// profile fetches a CPU profile of the gateway while a slice runs; the last one stays.
func (r *run) profile(ctx context.Context, d time.Duration) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.world.gateway.Admin,
			max(1, int(d/time.Second))))
		if err == nil {
			err = os.WriteFile(r.o.Profile, []byte(text), 0o600)
		}
		if err != nil && ctx.Err() == nil && r.o.Progress != nil {
			fmt.Fprintln(r.o.Progress, "no profile:", err)
		}
	}()
	return func() { <-done }
}

// tally is what the callers of a slice found.
type tally struct {
	micros []float64
	errors int
	first  string
	took   time.Duration
}

func (t *tally) slice(n float64, before, after map[string]time.Duration) slice {
	slices.Sort(t.micros)
	at := func(q float64) float64 { return t.micros[min(int(q*n), len(t.micros)-1)] }
	s := slice{perSecond: n / t.took.Seconds(), p50: at(0.5), p99: at(0.99), parts: map[string]float64{}}
	for name, used := range after {
		micros := float64((used - before[name]).Microseconds()) / n
		s.parts[name] = micros
		s.cpuMicros += micros
	}
	return s
}

// drive has so many callers make one call after the other.
func drive(ctx context.Context, d time.Duration, callers int, call func(context.Context) error) *tally {
	var mu sync.Mutex
	var t tally
	var all sync.WaitGroup
	began := time.Now()
	for range callers {
		all.Go(func() {
			var micros []float64
			for time.Since(began) < d && ctx.Err() == nil {
				at := time.Now()
				if err := call(ctx); err != nil {
					mu.Lock()
					t.errors++
					if t.first == "" {
						t.first = err.Error()
					}
					mu.Unlock()
					continue
				}
				micros = append(micros, float64(time.Since(at).Nanoseconds())/1e3)
			}
			mu.Lock()
			t.micros = append(t.micros, micros...)
			mu.Unlock()
		})
	}
	all.Wait()
	t.took = time.Since(began)
	return &t
}

// caller returns what makes one saga and waits for its end.
func (r *run) caller(c *Cell, side string) (func(context.Context) error, error) {
	if side == byGateway {
		return r.throughGateway(serviceName(c.Statements)), nil
	}
	return r.handmade(r.world.services[c.Statements].Site.Listen)
}

const order = `{"sku":"SKU-1","qty":2}`

var callers = &http.Client{
	Transport: &http.Transport{MaxIdleConns: 2 * callersMax, MaxIdleConnsPerHost: callersMax},
	Timeout:   time.Minute,
}

func (r *run) throughGateway(route string) func(context.Context) error {
	target := "http://" + r.world.gateway.Listen + "/" + route
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(order))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-User", "ann")
		req.Header.Set("Idempotency-Key", rand.Text())
		resp, err := callers.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"state":"succeeded"`))) {
			err = fmt.Errorf("%s: %.300s", resp.Status, body)
		}
		return err
	}
}

func (r *run) handmade(services string) (func(context.Context) error, error) {
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{"http://" + r.world.dtm.Listen}, HTTP: callers,
		Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		gid := strings.ToLower(rand.Text())
		payload, err := json.Marshal(map[string]any{"id": gid, "sku": "SKU-1", "qty": 2})
		if err != nil {
			return err
		}
		s := &sagaclient.Saga{GID: gid, Wait: true, Timeout: time.Minute, RetryEvery: 3 * time.Second}
		for _, name := range steps {
			at := "http://" + services + "/" + name
			s.Steps = append(s.Steps, sagaclient.Step{Name: name, Action: at + "/do", Compensate: at + "/undo",
				Payload: payload})
		}
		done, err := client.SubmitOnce(ctx, s)
		if err == nil && !done {
			err = fmt.Errorf("saga %s was not done at once", gid)
		}
		return err
	}, nil
}
