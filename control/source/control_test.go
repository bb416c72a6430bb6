package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/sluice-gateway/sluice/bench/kit/adstest"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

const (
	planeA = "127.0.0.1:1"
	planeB = "127.0.0.1:2"
)

// document returns one whose only route responds with a status.
func document(status int) string {
	return fmt.Sprintf(`{"routes":[{"match":{"path":"/a"},"name":"a","respond":{"status":%d}}],"version":1}`, status)
}

// discovering is a document whose service has endpoints that the control plane finds.
const discovering = `{"routes":[{"match":{"path":"/a"},"name":"a","service":"order"}],"services":{"order":` +
	`{"endpointsFrom":{"dns":{"name":"order.internal","port":80}}}},"version":1}`

var found = config.Endpoint{Network: "tcp", Address: "10.0.0.1:80", Host: "order.internal"}

// fleet is a gateway of a fleet on a network in memory, and what was put in force there.
type fleet struct {
	*Control
	t       *testing.T
	network *adstest.Network
	dir     string
	logs    *log
	stop    func()

	applied   chan *config.Config
	endpoints chan []config.Endpoint
	refused   chan error
	mu        sync.Mutex
	refuse    error
}

type log struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (f *fleet) Apply(cfg *config.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse == nil {
		f.applied <- cfg
	}
	return f.refuse
}

func (f *fleet) Refuse(err error) { f.refused <- err }

func (f *fleet) SetEndpoints(_ string, list []config.Endpoint) { f.endpoints <- list }

// join makes a gateway whose bootstrap is in a folder; an empty one is new.
func join(t *testing.T, n *adstest.Network, dir string, servers ...string) *fleet {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
		bootstrap(t, dir, "")
	}
	logs := new(log)
	f := &fleet{
		t: t, network: n, dir: dir, logs: logs, applied: make(chan *config.Config, 100),
		endpoints: make(chan []config.Endpoint, 100), refused: make(chan error, 100),
	}
	f.Control = &Control{
		Servers: servers, Node: "edge-1", Bootstrap: filepath.Join(dir, "bootstrap.yaml"), dial: n.Dial,
		Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}
	return f
}

func bootstrap(t *testing.T, dir, more string) {
	t.Helper()
	text := "store: {memory: {}}\nlisten: {http: 127.0.0.1:0}\nadmin: {address: 127.0.0.1:0}\ndata: ./last\n" + more
	if err := os.WriteFile(filepath.Join(dir, "bootstrap.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run has the gateway begin with its first configuration, which it returns, and go on.
func (f *fleet) run() *config.Config {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	cfg, err := f.First(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = f.Watch(ctx, f); close(ended) }()
	f.stop = sync.OnceFunc(func() { cancel(); <-ended })
	f.t.Cleanup(f.stop)
	f.t.Cleanup(func() {
		if f.t.Failed() {
			f.t.Log(f.logs.b.String())
		}
	})
	return cfg
}

// next returns the status of the configuration that is put in force next.
func (f *fleet) next() int {
	f.t.Helper()
	return adstest.Receive(f.t, f.applied, "configuration").Routes[0].Respond.Status
}

// unchanged reports whether nothing was put in force.
func (f *fleet) unchanged() {
	f.t.Helper()
	synctest.Wait()
	if len(f.applied) > 0 {
		f.t.Error("something was put in force")
	}
}

// answers returns the next answer to a response, past the subscriptions.
func answer(t *testing.T, p *adstest.Plane) (nonce, reason string) {
	t.Helper()
	for {
		if r := p.Request(t); r.GetResponseNonce() != "" {
			return r.GetResponseNonce(), r.GetErrorDetail().GetMessage()
		}
	}
}

func asksFor(r *discovery.DeltaDiscoveryRequest, service string) bool {
	return slices.Equal(r.GetResourceNamesSubscribe(), []string{service})
}

func TestControlAppliesAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		go func() { (<-p.Streams).Send(adstest.Configuration(t, "n1", "r1", document(201))) }()
		if cfg := f.run(); cfg.Routes[0].Respond.Status != 201 || cfg.Store.Memory == nil {
			t.Errorf("first configuration %+v", cfg)
		}
		if nonce, reason := answer(t, p); nonce != "n1" || reason != "" {
			t.Errorf("answer %s %s, want an ACK of the first", nonce, reason)
		}
		s := f.Status()
		if s.Origin != OriginControl || s.From != planeA || s.Connected != planeA || s.Nacks != 0 ||
			s.Version != config.DocumentHash([]byte(document(201))) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestControlRefusesWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", document(201)))
			streams <- str
		}()
		f.run()
		str := <-streams
		answer(t, p)
		for _, c := range []struct{ document, reason string }{
			{document(7), "routes[0].respond.status: 7 is less than"},
			{`{"version":1,"routes":[{"name":"a","match":{"path":"/"},"service":"b"}]}`, `there is no service "b"`},
			{strings.Replace(document(200), `"name":"a"`, `"name":"${env:SLUICE_TEST_ABSENT}"`, 1),
				"routes[0].name: ${env:SLUICE_TEST_ABSENT}: the environment has no such variable"},
			{`{"version":1,"ruotes":[]}`, `did you mean "routes"?`},
		} {
			str.Send(adstest.Configuration(t, "bad", "r2", c.document))
			if nonce, reason := answer(t, p); nonce != "bad" || !strings.Contains(reason, c.reason) {
				t.Errorf("%s: answer %s %q, want a NACK with %q", c.document, nonce, reason, c.reason)
			}
			f.unchanged()
		}
		f.mu.Lock()
		f.refuse = errors.New("gateway: listen differs: that takes a restart")
		f.mu.Unlock()
		str.Send(adstest.Configuration(t, "n2", "r2", document(202)))
		if nonce, reason := answer(t, p); nonce != "n2" || !strings.Contains(reason, "takes a restart") {
			t.Errorf("answer %s %q, want a NACK with the gateway's reason", nonce, reason)
		}
		f.mu.Lock()
		f.refuse = nil
		f.mu.Unlock()
		str.Send(adstest.Configuration(t, "n3", "r3", document(203)))
		if status := f.next(); status != 203 {
			t.Errorf("status %d, want 203", status)
		}
		if nonce, reason := answer(t, p); nonce != "n3" || reason != "" {
			t.Errorf("answer %s %s, want an ACK", nonce, reason)
		}
		s := f.Status()
		if s.Nacks != 5 || s.LastNack == nil || s.LastNack.Version != config.DocumentHash([]byte(document(202))) {
			t.Errorf("status %+v, last NACK %+v", s, s.LastNack)
		}
		registry := metric.New()
		registry.Add(f.Control)
		if families, err := registry.Gather(); err != nil || len(families) != 7 {
			t.Errorf("%d metrics, error %v; want 7", len(families), err)
		}
	})
}

// A configuration waits for the endpoints of its services, for a moment.
func TestControlWaitsForEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", discovering))
			for { // the endpoints are asked for before it is in force
				if asksFor(<-p.Requests, "order") {
					break
				}
			}
			time.Sleep(time.Second)
			str.Send(adstest.Endpoints(t, "e1", "e1", "order", found))
			streams <- str
		}()
		began := time.Now()
		f.run()
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("in force after %s, want a second: with the endpoints", took)
		}
		if got := f.Discovered()["order"]; len(got) != 1 || got[0] != found {
			t.Errorf("endpoints %v", got)
		}
		str := <-streams
		str.Send(adstest.Endpoints(t, "e2", "e2", "order"))
		if list := adstest.Receive(t, f.endpoints, "endpoints"); len(list) != 0 {
			t.Errorf("endpoints %v, want none", list)
		}
		more := `"more":{"endpointsFrom":{"dns":{"name":"m","port":1}}},"order":{`
		two := strings.Replace(discovering, `"order":{`, more, 1)
		began = time.Now()
		str.Send(adstest.Configuration(t, "n2", "r2", two))
		adstest.Receive(t, f.applied, "configuration without all endpoints")
		if took := time.Since(began); took < endpointsWait || took > endpointsWait+time.Second {
			t.Errorf("in force after %s, want %s: endpoints did not come", took, endpointsWait)
		}
		if !f.logs.has("without the endpoints") || !f.logs.has("more") {
			t.Error("it was not told which service has no endpoints")
		}
	})
}

// Endpoints that came for a configuration which waits for others are there when it is put in force, although the one
// in force was put in force again meanwhile.
func TestEndpointsOfTheNextSurviveAReloadOfTheOneInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		status := filepath.Join(f.dir, "status")
		write(t, status, "201")
		text := strings.Replace(document(0), `"status":0`, `"status":"${file:status}"`, 1)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", text))
			streams <- str
		}()
		f.run()
		str := <-streams
		more := `"more":{"endpointsFrom":{"dns":{"name":"m","port":1}}},"order":{`
		str.Send(adstest.Configuration(t, "n2", "r2", strings.Replace(discovering, `"order":{`, more, 1)))
		for {
			if r := p.Request(t); slices.Contains(r.GetResourceNamesSubscribe(), "order") {
				break
			}
		}
		str.Send(adstest.Endpoints(t, "e1", "e1", "order", found))
		adstest.Receive(t, f.endpoints, "endpoints")
		write(t, status, "202")
		if got := f.next(); got != 202 { // as which the gateway forgets the endpoints
			t.Errorf("status %d, want 202", got)
		}
		if cfg := adstest.Receive(t, f.applied, "configuration"); cfg.Services["order"] == nil {
			t.Errorf("configuration %+v", cfg.Services)
		}
		if len(f.endpoints) != 1 || (<-f.endpoints)[0] != found {
			t.Error("the endpoints were not given again")
		}
	})
}

// A file that changes just before endpoints come is looked at all the same.
func TestChangeBeforeEndpointsComeIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		status := filepath.Join(f.dir, "status")
		write(t, status, "201")
		text := strings.Replace(discovering, `"service":"order"`, `"respond":{"status":"${file:status}"}`, 1)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", text))
			for {
				if asksFor(<-p.Requests, "order") {
					break
				}
			}
			str.Send(adstest.Endpoints(t, "e1", "e1", "order", found))
			streams <- str
		}()
		f.run()
		str := <-streams
		synctest.Wait() // for the first look at the files
		write(t, status, "202")
		str.Send(adstest.Endpoints(t, "e2", "e2", "order"))
		adstest.Receive(t, f.endpoints, "endpoints")
		if got := f.next(); got != 202 {
			t.Errorf("status %d, want 202", got)
		}
	})
}

// What the control plane sends counts until Watch ends, which a gateway that drains is later at than First's context.
func TestControlIsFollowedUntilWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", document(201)))
			streams <- str
		}()
		started, drains := context.WithCancel(t.Context())
		if _, err := f.First(started); err != nil {
			t.Fatal(err)
		}
		watched, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = f.Watch(watched, f); close(ended) }()
		drains()
		time.Sleep(time.Second)
		(<-streams).Send(adstest.Configuration(t, "n2", "r2", document(202)))
		if got := f.next(); got != 202 {
			t.Errorf("status %d, want 202", got)
		}
		stop()
		<-ended
		if s := f.Status(); s.Kept != config.DocumentHash([]byte(document(202))) {
			t.Errorf("status %+v", s)
		}
	})
}

// A newer configuration does not wait behind one that waits for endpoints.
func TestControlTakesTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", discovering))
			str.Send(adstest.Configuration(t, "n2", "r2", document(204)))
		}()
		began := time.Now()
		if cfg := f.run(); cfg.Routes[0].Respond == nil || time.Since(began) > time.Second {
			t.Errorf("first configuration %+v after %s", cfg.Routes[0], time.Since(began))
		}
	})
}

// The control plane is gone for an hour, which changes nothing; then it sends nothing that is there.
func TestControlPlaneIsGoneForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", discovering))
			for {
				if asksFor(<-p.Requests, "order") {
					break
				}
			}
			str.Send(adstest.Endpoints(t, "e1", "e1", "order", found))
		}()
		f.run()
		time.Sleep(time.Minute)
		p.Server.Stop()
		time.Sleep(time.Hour)
		f.unchanged()
		if s := f.Status(); s.Connected != "" || s.Fault == "" || s.Age < 3600 || s.Origin != OriginControl ||
			time.Since(s.LastContact) < time.Hour-time.Second || len(f.endpoints) > 0 || len(f.refused) > 0 {
			t.Errorf("status %+v", s)
		}
		again := n.Serve(t, planeA)
		<-again.Streams
		if r := again.Request(t); r.GetInitialResourceVersions()["sluice"] != "r1" {
			t.Errorf("first request %v, want r1", r)
		}
		if r := again.Request(t); r.GetInitialResourceVersions()["order"] != "e1" {
			t.Errorf("first request for endpoints %v, want e1", r)
		}
		time.Sleep(time.Minute)
		f.unchanged()
		if s := f.Status(); s.Connected != planeA || s.Fault != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// Of two control planes one has an older configuration: what the one that is called has is in force, whole.
func TestControlPlaneThatIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		serve := func(address string, status int) *adstest.Plane {
			p := n.Serve(t, address)
			go func() {
				for {
					select {
					case <-t.Context().Done():
						return
					case str := <-p.Streams:
						str.Send(adstest.Configuration(t, "n", fmt.Sprint("r", status), document(status)))
					}
				}
			}()
			return p
		}
		newer := serve(planeA, 202)
		serve(planeB, 201)
		f := join(t, n, "", planeA, planeB)
		if cfg := f.run(); cfg.Routes[0].Respond.Status != 202 {
			t.Errorf("status %d, want 202", cfg.Routes[0].Respond.Status)
		}
		time.Sleep(time.Minute)
		newer.Server.Stop()
		if status := f.next(); status != 201 {
			t.Errorf("status %d, want 201", status)
		}
		synctest.Wait()
		if s := f.Status(); s.From != planeB || s.Connected != planeB {
			t.Errorf("status %+v, want that of the other control plane", s)
		}
		serve(planeA, 202)
		time.Sleep(time.Minute)
		f.unchanged() // it is not gone back to
	})
}

func TestLastGoodIsTakenWithoutAControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", discovering))
			for {
				if asksFor(<-p.Requests, "order") {
					break
				}
			}
			str.Send(adstest.Endpoints(t, "e1", "e1", "order", found))
		}()
		f.run()
		f.stop()
		p.Server.Stop()
		time.Sleep(time.Hour)

		again := join(t, n, f.dir, planeA, planeB)
		began := time.Now()
		cfg := again.run()
		if took := time.Since(began); cfg.Routes[0].Service.Name != "order" || took > startWait {
			t.Errorf("configuration %+v after %s", cfg.Routes[0], took)
		}
		if got := again.Discovered()["order"]; len(got) != 1 || got[0] != found {
			t.Errorf("endpoints %v", got)
		}
		synctest.Wait()
		if s := again.Status(); s.Origin != OriginLastGood || s.Age < 3600 || s.Connected != "" {
			t.Errorf("status %+v", s)
		}
		p = n.Serve(t, planeA) // it has the same one: nothing is sent
		<-p.Streams
		if r := p.Request(t); r.GetInitialResourceVersions()["sluice"] != "r1" {
			t.Errorf("first request %v, want r1", r)
		}
		again.unchanged()
	})
}

// A control plane that answers counts more than what is on disk, also where it has what is there.
func TestControlPlaneCountsMoreThanTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		go func() {
			for i := range 2 {
				(<-p.Streams).Send(adstest.Configuration(t, "n", fmt.Sprint("r", i), document(201+i)))
			}
		}()
		f := join(t, n, "", planeA)
		f.run()
		f.stop()
		again := join(t, n, f.dir, planeA)
		if cfg := again.run(); cfg.Routes[0].Respond.Status != 202 {
			t.Errorf("status %d, want the control plane's, 202", cfg.Routes[0].Respond.Status)
		}
	})
}

func TestLastGoodThatIsNotWholeIsIgnored(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"half":    func(b []byte) []byte { return b[:len(b)/2] },
		"flipped": func(b []byte) []byte { b[len(b)-10] ^= 1; return b },
		"empty":   func([]byte) []byte { return nil },
		"other":   func([]byte) []byte { return []byte("sha256 " + checksum([]byte("{")) + "\n{") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := adstest.NewNetwork()
				p := n.Serve(t, planeA)
				go func() { (<-p.Streams).Send(adstest.Configuration(t, "n", "r", document(201))) }()
				f := join(t, n, "", planeA)
				f.run()
				f.stop()
				p.Server.Stop()
				path := filepath.Join(f.dir, "last", goodName)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
				again := join(t, n, f.dir, planeA)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if cfg, err := again.First(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("configuration %v, error %v; want that it waits", cfg, err)
				}
				if !again.logs.has("is ignored") || again.Status().KeepFault == "" {
					t.Errorf("it was not told: %s", again.logs.b.String())
				}
			})
		})
	}
}

// Without a control plane and without a last good configuration the gateway waits, and says so.
func TestFirstStartWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		f := join(t, n, "", planeA)
		go func() {
			time.Sleep(5 * time.Minute)
			if !f.logs.has("waiting for the first configuration") || f.Status().Origin != OriginNone {
				t.Error("it does not say what it waits for")
			}
			p := n.Serve(t, planeA)
			(<-p.Streams).Send(adstest.Configuration(t, "n", "r", document(201)))
		}()
		if cfg := f.run(); cfg.Routes[0].Respond.Status != 201 {
			t.Errorf("status %d", cfg.Routes[0].Respond.Status)
		}
		if _, err := f.Own(); err != nil {
			t.Error(err)
		}
	})
}

// What First has returned cannot be used: it is refused, and the next one is taken.
func TestFirstIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", document(201)))
			if nonce, reason := answer(t, p); nonce != "n1" || reason != "no such certificate" {
				t.Errorf("answer %s %q, want a NACK", nonce, reason)
			}
			str.Send(adstest.Configuration(t, "n2", "r2", document(202)))
		}()
		if _, err := f.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Refused(errors.New("no such certificate"))
		if cfg := f.run(); cfg.Routes[0].Respond.Status != 202 {
			t.Errorf("status %d, want 202", cfg.Routes[0].Respond.Status)
		}
	})
}

// A disk that fails is told of, and changes nothing else.
func TestDiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		if err := os.WriteFile(filepath.Join(f.dir, "last"), nil, 0o600); err != nil { // where the folder would be
			t.Fatal(err)
		}
		go func() {
			str := <-p.Streams
			for i := range 3 {
				str.Send(adstest.Configuration(t, "n", fmt.Sprint("r", i), document(201+i)))
				time.Sleep(10 * time.Second)
			}
		}()
		f.run()
		if first, second := f.next(), f.next(); first != 202 || second != 203 {
			t.Errorf("status %d, then %d; want 202, 203", first, second)
		}
		time.Sleep(10 * time.Second)
		if s := f.Status(); s.KeepFault == "" || s.Kept != "" || !f.logs.has("cannot be written; the gateway goes on") {
			t.Errorf("status %+v", s)
		}
		if err := os.Remove(filepath.Join(f.dir, "last")); err != nil { // and now there is room
			t.Fatal(err)
		}
		time.Sleep(keepAgain + time.Second)
		if s := f.Status(); s.KeepFault != "" || s.Kept != config.DocumentHash([]byte(document(203))) {
			t.Errorf("the disk works again: status %+v", s)
		}
		file, err := os.Stat(filepath.Join(f.dir, "last", goodName))
		if err != nil || file.Mode().Perm() != 0o600 {
			t.Errorf("the file %+v, error %v; want one for nobody else", file, err)
		}
	})
}

// Files of this machine change: what is in force is put in force with them, and what was refused is asked for again.
func TestFilesOfTheGatewayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		status := filepath.Join(f.dir, "status")
		write(t, status, "201")
		text := strings.Replace(document(0), `"status":0`, `"status":"${file:status}"`, 1)
		streams := make(chan adstest.Stream, 1)
		go func() {
			str := <-p.Streams
			str.Send(adstest.Configuration(t, "n1", "r1", text))
			streams <- str
		}()
		if cfg := f.run(); cfg.Routes[0].Respond.Status != 201 {
			t.Errorf("status %d, want 201", cfg.Routes[0].Respond.Status)
		}
		write(t, status, "202")
		if got := f.next(); got != 202 {
			t.Errorf("status %d, want 202", got)
		}
		write(t, status, "high")
		if err := adstest.Receive(t, f.refused, "refusal"); !strings.Contains(err.Error(), "routes[0].respond.status") {
			t.Errorf("refused with %v", err)
		}
		write(t, status, "203")
		if got := f.next(); got != 203 {
			t.Errorf("status %d, want 203", got)
		}
		str := <-streams
		absent := strings.Replace(text, "file:status", "file:other", 1)
		str.Send(adstest.Configuration(t, "n2", "r2", absent))
		for {
			nonce, reason := answer(t, p)
			if nonce == "n1" {
				continue
			}
			if nonce != "n2" || !strings.Contains(reason, "other") {
				t.Errorf("answer %s %q", nonce, reason)
			}
			break
		}
		write(t, filepath.Join(f.dir, "other"), "204")
		str = <-p.Streams // which begins anew
		str.Send(adstest.Configuration(t, "n3", "r2", absent))
		if got := f.next(); got != 204 {
			t.Errorf("status %d, want 204", got)
		}
	})
}

func TestReloadReadsTheBootstrapAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, planeA)
		f := join(t, n, "", planeA)
		reload := make(chan struct{})
		f.Reload = reload
		go func() { (<-p.Streams).Send(adstest.Configuration(t, "n", "r", document(201))) }()
		f.run()
		bootstrap(t, f.dir, "log: {}\n")
		reload <- struct{}{}
		err := adstest.Receive(t, f.refused, "refusal")
		if !strings.Contains(err.Error(), "bootstrap.yaml:5:1: log: unknown key") {
			t.Errorf("refused with %v", err)
		}
		<-p.Streams // and the connection is a new one
		bootstrap(t, f.dir, "")
		path := filepath.Join(f.dir, "bootstrap.yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, strings.Replace(string(text), "127.0.0.1:0}", "127.0.0.1:0, maxBody: 1MiB}", 1))
		if cfg := adstest.Receive(t, f.applied, "configuration"); cfg.Listen.MaxBody != 1<<20 {
			t.Errorf("maxBody %s, want 1MiB", cfg.Listen.MaxBody)
		}
	})
}
