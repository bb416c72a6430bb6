// Command sluice-examples is the services behind the examples in the folder above: small ones, each with a database of
// its own, written as services behind the gateway should be. Every effect goes through participant.Guard, which is what
// makes a repeated request, with its key or as a branch of a transaction, take effect once.
//
//	sluice-examples --dir data/rebate inventory=127.0.0.1:7101 account=127.0.0.1:7102
//
// runs two of them in one process, each on SQLite in the folder; with --mariadb each has a database of its own there.
// It prints ready when all of them serve, and ends at SIGINT or SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings is what the command line says.
type settings struct {
	dir        string // of the SQLite files
	mariadb    string // DSN up to the slash before the database; "": SQLite
	callback   string // where the provider sends its callbacks
	registerAt string // where banks may register their branches; "": wherever a call says
	// of the manager of rebates: the coordinator and the two services that it drives, URLs
	coordinator, inventory, account string
	services                        map[string]string
}

// makers make the services by name.
var makers = map[string]func(settings, *store) (part, error){
	"inventory":    newResource(inventory),
	"account":      newResource(account),
	"homework":     newResource(homework),
	"grade":        newResource(grade),
	"notification": newResource(notification),
	"orders":       newOrders,
	"provider":     newProvider,
	"card":         newCard,
	"rebates":      newManager,
	"bank-a":       newBank,
	"bank-b":       newBank,
}

// part is one service: what it serves, and what it does besides until ctx ends.
type part struct {
	handler http.Handler
	run     func(ctx context.Context) // nil: nothing
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	s, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sluice-examples:", err)
		os.Exit(2)
	}
	if err := run(ctx, s, os.Stdout, log); err != nil {
		fmt.Fprintln(os.Stderr, "sluice-examples:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (settings, error) {
	s := settings{services: map[string]string{}}
	f := flag.NewFlagSet("sluice-examples", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.dir, "dir", "data/examples", "`folder` of the SQLite files; made if missing")
	f.StringVar(&s.mariadb, "mariadb", "", "in place of SQLite a MariaDB server, `user:password@tcp(host:port)`")
	f.StringVar(&s.callback, "callback", "", "`URL` to which the provider sends its callbacks")
	f.StringVar(&s.coordinator, "coordinator", "http://127.0.0.1:36789", "`URL` of DTM, for rebates")
	f.StringVar(&s.inventory, "inventory", "http://127.0.0.1:7101", "`URL` of the inventory, for rebates")
	f.StringVar(&s.account, "account", "http://127.0.0.1:7102", "`URL` of the account, for rebates")
	f.StringVar(&s.registerAt, "register-at", "", "beginning of the `URL` at which banks register their branches; "+
		"without it they follow whatever a call says")
	names := strings.Join(slices.Sorted(maps.Keys(makers)), ", ")
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: sluice-examples [flags] NAME=HOST:PORT...\nnames: %s\n", names)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	for _, arg := range f.Args() {
		name, address, _ := strings.Cut(arg, "=")
		if makers[name] == nil {
			return s, fmt.Errorf("%q is no service; there are %s", name, names)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return s, fmt.Errorf("%s: %w", arg, err)
		}
		s.services[name] = address
	}
	if len(s.services) == 0 {
		return s, errors.New("which services? sluice-examples --help")
	}
	return s, nil
}

// drainLimit is how long requests in flight may take at the end.
const drainLimit = 10 * time.Second

// run opens and serves the services until ctx ends or one of them fails.
func run(ctx context.Context, s settings, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(s.services))
	var stops []func()
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		stop, err := serve(ctx, s, name, failed, log.With("service", name))
		if err != nil {
			return err
		}
		stops = append(stops, stop)
		fmt.Fprintf(out, "%-12s http://%s\n", name, s.services[name])
	}
	fmt.Fprintln(out, "ready")
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serve starts one service and returns how to stop it.
func serve(ctx context.Context, s settings, name string, failed chan<- error, log *slog.Logger) (func(), error) {
	st, err := openStore(ctx, s, name, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p, err := makers[name](s, st)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), st.db.Close())
	}
	listener, err := net.Listen("tcp", s.services[name])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), st.db.Close())
	}
	server := &http.Server{Handler: p.handler, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if p.run != nil {
			p.run(ctx)
		}
	}()
	return func() {
		limited, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		if err := server.Shutdown(limited); err != nil {
			_ = server.Close() // what still runs had its time
		}
		if ctx.Err() != nil {
			<-ended
		}
		_ = st.db.Close()
	}, nil
}
