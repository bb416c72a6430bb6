package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/bench/shop"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
)

const (
	readyLimit = 60 * time.Second
	drainLimit = 5 * time.Second
	probeLimit = time.Second
	probePause = 20 * time.Millisecond
)

// Options say what to run. All members but Coordinator and Build are needed.
type Options struct {
	Listen      string       // host:port for clients; port 0 takes a free one
	Data        string       // folder; made when it is not there
	Coordinator string       // the coordinator's program; "": sluice-dtm beside the executable or in PATH
	Out         io.Writer    // gets the addresses, the lines to try, and ready
	Logger      *slog.Logger // the gateway's, the shop's and the demo's log
	Build       string       // this program's version
}

// Run starts everything, prints how to try it once all of it is ready, and stops it when ctx ends.
// The error says what did not start, or what ended by itself.
func Run(ctx context.Context, o Options) error {
	program, err := FindCoordinator(o.Coordinator)
	if err != nil {
		return err
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	dtmData := filepath.Join(data, "dtm")
	if err := os.MkdirAll(dtmData, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	locked, err := lock(data)
	if err != nil {
		return err
	}
	defer locked.Close()
	at, err := chooseAddresses(data, shop.Names, o.Logger)
	if err != nil {
		return err
	}
	admin, sockets, err := listenForAdmin()
	if err != nil {
		return err
	}
	path, err := writeConfig(data, settings{Listen: o.Listen, Admin: admin, addresses: at})
	if err != nil {
		return err
	}

	// The coordinator logs a refused payment as an error, which is none here; so its log goes into
	// a file.
	dtmLog, err := os.OpenFile(filepath.Join(data, "coordinator.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer dtmLog.Close()

	return runParts(ctx, parts{
		shop: func(ctx context.Context) error {
			return shop.Run(ctx, shop.Options{Dir: filepath.Join(data, "shop"), Addresses: at.Services,
				Log: o.Logger}, nil)
		},
		coordinator: (&coordinator{program: program, address: at.Coordinator, data: dtmData, errors: dtmLog,
			log: o.Logger}).supervise,
		gateway: func(ctx context.Context, ready func(gateway.Addresses)) error {
			return gateway.Run(ctx, gateway.Options{
				Source:  &source.File{Path: path},
				Logger:  o.Logger,
				OnReady: ready, DrainLimit: drainLimit, Build: o.Build, Sockets: sockets,
			})
		},
		announce: func(ctx context.Context, bound gateway.Addresses) error { return announce(ctx, o, at, bound) },
	})
}

// parts are what a demo consists of. Each runs until its context ends.
type parts struct {
	shop, coordinator func(ctx context.Context) error
	gateway           func(ctx context.Context, ready func(gateway.Addresses)) error
	// once the gateway is ready; ends by itself
	announce func(ctx context.Context, bound gateway.Addresses) error
}

// runParts starts the parts from the back, and stops them from the front when ctx ends or one of
// them does.
func runParts(ctx context.Context, p parts) error {
	bound := make(chan gateway.Addresses, 1)
	shopPart := begin(p.shop)
	coordinator := begin(p.coordinator)
	gatewayPart := begin(func(ctx context.Context) error {
		return p.gateway(ctx, func(a gateway.Addresses) { bound <- a })
	})
	announcement := begin(func(ctx context.Context) error {
		select {
		case a := <-bound:
			return p.announce(ctx, a)
		case <-ctx.Done():
			return nil
		}
	})

	for announced := announcement.ended; ; announced = nil {
		select {
		case <-announced:
			if announcement.err == nil {
				continue
			}
		case <-gatewayPart.ended:
		case <-shopPart.ended:
		case <-ctx.Done():
		}
		break
	}
	stopped := announcement.stop()
	if ctx.Err() != nil {
		stopped = nil // it was interrupted, which is no failure
	}
	return errors.Join(stopped, gatewayPart.stop(), coordinator.stop(), shopPart.stop())
}

// part is something that runs beside the others.
type part struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // read after ended is closed
}

func begin(run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx)
	}()
	return p
}

// stop ends the part, waits for its end and returns how it ended.
func (p *part) stop() error {
	p.cancel()
	<-p.ended
	return p.err
}

// announce waits until everything is ready and prints how to try it.
func announce(ctx context.Context, o Options, at addresses, bound gateway.Addresses) error {
	probes := []string{"http://" + at.Coordinator + "/api/dtmsvr/version", "http://" + bound.Admin + "/readyz"}
	for _, address := range at.Services {
		probes = append(probes, "http://"+address+"/healthz")
	}
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for _, url := range probes {
		if err := waitFor(limited, url); err != nil {
			return fmt.Errorf("demo: not ready within %v: %w", readyLimit, err)
		}
	}
	return printGuide(o.Out, guide{Data: o.Data, Gateway: bound.HTTP, Admin: bound.Admin, addresses: at,
		Run: newRunID()})
}

// waitFor polls the URL until it returns 200; when ctx ends first, it returns the last error.
func waitFor(ctx context.Context, url string) error {
	for {
		err := probe(ctx, url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(probePause):
		}
	}
}

func probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, resp.Status)
	}
	return nil
}
