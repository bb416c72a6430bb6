package linearizability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	clientsPerGateway = 8
	principals        = 5
	recentKeys        = 24 // that a client takes one of
	// requestLimit bounds a request to a gateway that is stopped; others reply long before.
	requestLimit = 15 * time.Second
)

// Load is clients that send keyed requests to gateways until they are stopped.
type Load struct {
	history *History
	urls    []string
	client  *http.Client
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	random  *rand.Rand
	n       int // operations so far
	keys    int // so far; from the start there are as many as clients choose from, so that none gets too many requests
	touched map[Request]bool
	sent    map[string]Request // by operation
}

// StartLoad starts clients of the gateways with these URLs. The path is that of the route.
func StartLoad(h *History, seed uint64, urls ...string) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{
		history: h, urls: urls, cancel: cancel, keys: recentKeys,
		touched: map[Request]bool{}, sent: map[string]Request{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		random: rand.New(rand.NewPCG(seed, 2)),
	}
	for i := range clientsPerGateway * len(urls) {
		l.running.Go(func() {
			for ctx.Err() == nil {
				gateway, timeout, request := l.draw(i)
				l.Send(ctx, gateway, timeout, request)
				pause(ctx, l.thought())
			}
		})
	}
	return l
}

// thought is how long a client waits between two requests.
func (l *Load) thought() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.random.IntN(20)) * time.Millisecond
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Stop ends the clients when each has its response.
func (l *Load) Stop() {
	l.cancel()
	l.running.Wait()
	l.client.CloseIdleConnections()
}

// draw chooses a request: mostly one of the newest keys again. Few have another body than the key's
// first, few clients leave early. Half of the clients have a gateway of their own, so that one
// gateway that is stopped does not stop all clients.
func (l *Load) draw(client int) (gateway int, timeout time.Duration, r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gateway = client % len(l.urls)
	if client/len(l.urls)%2 == 0 {
		gateway = l.random.IntN(len(l.urls))
	}
	timeout = requestLimit
	if l.random.IntN(100) < 3 {
		timeout = time.Duration(l.random.IntN(30)) * time.Millisecond
	}
	if l.random.IntN(100) < 12 {
		l.keys++
	}
	key := l.keys - 1 - l.random.IntN(recentKeys)
	r = Request{Principal: fmt.Sprint("p", key%principals), Key: fmt.Sprint("k", key/principals), Body: "a"}
	if l.random.IntN(100) < 5 {
		r.Body = "b"
	}
	l.touched[r] = true
	return gateway, timeout, r
}

// Requests returns the distinct requests that were sent.
func (l *Load) Requests() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rs []Request
	for r := range l.touched {
		rs = append(rs, r)
	}
	return rs
}

// begin names an operation, by its gateway too: the service stalls one gateway's.
func (l *Load) begin(gateway int, r Request) (id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	id = fmt.Sprint("o", l.n, "@", gateway)
	l.sent[id] = r
	return id
}

// RequestOf returns the request of an operation, also of one that has ended: a gateway goes on with
// a request whose client has left. False: there is no such operation.
func (l *Load) RequestOf(id string) (Request, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.sent[id]
	return r, ok
}

// Send makes one request and records it, unless it certainly never reached the gateway. A client
// that leaves by ctx or after timeout has no response.
func (l *Load) Send(ctx context.Context, gateway int, timeout time.Duration, r Request) (a Response, sent bool) {
	o := Operation{ID: l.begin(gateway, r), Request: r, Gateway: gateway, Call: l.history.now(), Return: Open}
	// Not under ctx: a load that is stopped waits for its responses.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	response, err := l.post(limited, &o)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return Response{}, false
	}
	if err == nil {
		o.Response, o.Return = response, l.history.now()
	}
	l.history.add(o)
	return o.Response, true
}

func (l *Load) post(ctx context.Context, o *Operation) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.urls[o.Gateway]+"/v1/orders",
		strings.NewReader(o.Request.Body))
	if err != nil {
		return Response{}, err
	}
	// else net/http itself would send a request with an Idempotency-Key again when a connection
	// breaks
	req.GetBody = nil
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("X-User", o.Request.Principal)
	req.Header.Set("Idempotency-Key", o.Request.Key)
	req.Header.Set(operationField, o.ID)
	resp, err := l.client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Response{}, err // cut off: the client has no response
	}
	return Response{
		Status: resp.StatusCode, Reason: resp.Header.Get("Sluice-Reason"), Body: string(body),
		Replayed: resp.Header.Get("Idempotent-Replayed") == "true",
	}, nil
}
