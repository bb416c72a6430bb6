package shop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Names of the services.
var Names = []string{"order", "stock", "payment", "points", "shipping"}

// Options are the settings of a shop.
type Options struct {
	Dir       string              // of the SQLite files; made if missing
	Addresses map[string]string   // host:port by service; one that is missing takes a free port on loopback
	Stock     map[string]int64    // units by SKU at the first start; nil: SKU-1 1000, SKU-2 5
	CardLimit int64               // what a card pays at most, minor units; 0: 100000
	Naive     bool                // the services ignore keys and branches
	NoKeys    bool                // they honour branches of transactions, and ignore other keys
	Capacity  map[string]Capacity // by service; one that is missing is as fast as the machine
	Log       *slog.Logger        // nil: discards
}

// Shop is a running shop.
type Shop struct {
	addresses map[string]string
	services  []*service
	servers   []*http.Server
	failed    chan error
}

// Start opens the databases and serves; the error names what could not be opened, and then nothing
// runs.
func Start(o Options) (*Shop, error) {
	if o.Stock == nil {
		o.Stock = map[string]int64{"SKU-1": 1000, "SKU-2": 5}
	}
	if o.CardLimit == 0 {
		o.CardLimit = 100_000
	}
	if o.Log == nil {
		o.Log = discardLog
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("shop: %w", err)
	}
	s := &Shop{addresses: map[string]string{}, failed: make(chan error, len(Names))}
	for _, k := range kinds(o) {
		if err := s.start(k, o); err != nil {
			return nil, errors.Join(err, s.Close(context.Background()))
		}
	}
	return s, nil
}

func (s *Shop) start(k *kind, o Options) error {
	addr := o.Addresses[k.name]
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("shop: %s: %w", k.name, err)
	}
	svc, err := openService(k, o)
	if err != nil {
		ln.Close()
		return err
	}
	server := &http.Server{Handler: svc.handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn)}
	s.services, s.servers = append(s.services, svc), append(s.servers, server)
	s.addresses[k.name] = ln.Addr().String()
	go func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("shop: %s: %w", k.name, err)
		}
	}()
	return nil
}

// Addresses returns host:port by service.
func (s *Shop) Addresses() map[string]string { return s.addresses }

// URL returns http://host:port of a service.
func (s *Shop) URL(service string) string { return "http://" + s.addresses[service] }

// Close stops the services: requests in flight may finish until ctx ends; those that hang are
// aborted.
func (s *Shop) Close(ctx context.Context) error {
	errs := make([]error, len(s.servers))
	var wg sync.WaitGroup
	for i, server := range s.servers {
		wg.Go(func() {
			s.services[i].faults.reset()
			s.services[i].workers.close()
			if err := server.Shutdown(ctx); err != nil {
				errs[i] = errors.Join(err, server.Close())
			}
			errs[i] = errors.Join(errs[i], s.services[i].close())
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Run runs a shop until ctx ends; requests in flight then have ten seconds. ready, when not nil, is
// called once with the shop when all services serve.
func Run(ctx context.Context, o Options, ready func(*Shop)) error {
	s, err := Start(o)
	if err != nil {
		return err
	}
	if ready != nil {
		ready(s)
	}
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-s.failed:
	}
	stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(failed, s.Close(stop))
}
