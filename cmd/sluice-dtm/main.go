package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr"
	_ "github.com/sluice-gateway/sluice/cmd/sluice-dtm/loglevel" // before DTM's logger
)

const (
	version = "sluice-dtm/1.19.0"
	grace   = 5 * time.Second // what requests and passes in flight get at a stop
)

func main() {
	os.Exit(realMain(os.Args[1:], os.Stdout, os.Stderr))
}

func realMain(args []string, stdout, stderr io.Writer) int {
	s, err := parseSettings(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "sluice-dtm:", err)
		return 2
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(1)
	}()
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.level}))
	if err := run(ctx, s, stdout, log); err != nil {
		fmt.Fprintln(stderr, "sluice-dtm:", err)
		return 1
	}
	return 0
}

// run serves until ctx ends. DTM keeps its configuration and its store in package variables, so it
// runs once a process.
func run(ctx context.Context, s settings, stdout io.Writer, log *slog.Logger) error {
	ln, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", s.listen, err)
	}
	defer ln.Close()
	closeStore, err := openStore(ctx, s, log)
	if err != nil {
		return err
	}

	dtmsvr.Version = version
	if s.store == embedded {
		dtmsvr.Version += " (" + embedded + ")" // the gateway looks whether it knows keepFor
	}
	calls := newCalls()
	server := &http.Server{
		Handler:           refuseBrowsers(newHandler(s.branchTimeout, calls), s.hosts),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	cronDone := startCron(ctx, s.cron)
	if s.store == mysql || s.store == postgres {
		go forgetInSQL(ctx, s.keepFor, log)
	}
	fmt.Fprintf(stdout, "sluice-dtm listening on %s\n", ln.Addr())

	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	return errors.Join(stopServing(server, cronDone, calls, log), closeStore())
}

// stopServing waits for requests, passes and branch calls in flight, for the grace period at most. What is
// still under way then finds the store closed.
func stopServing(server *http.Server, cronDone <-chan struct{}, calls *calls, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := server.Shutdown(ctx)
	if err == nil {
		select {
		case <-cronDone:
			err = calls.waitQuiet(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		log.Warn("stopped with work in flight; it is taken up after the next start", "grace", grace)
	}
	return nil
}

// refuseBrowsers keeps web pages from using the coordinator through a browser that can reach it: the interface has no
// authentication and calls any URL. A browser names the page's origin in every POST, and its host in every request
// (DNS rebinding): so only this machine's names, and those of --hosts, are taken.
func refuseBrowsers(next http.Handler, hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || !isLoopback(r.Host) && !slices.Contains(hosts, hostOf(r.Host)) {
			http.Error(w, "for programs that are meant to reach it only; see --hosts", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether the host of host or host:port is this machine by its name.
func isLoopback(hostport string) bool {
	host := hostOf(hostport)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hostOf returns the host of host or host:port, in lower case.
func hostOf(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return strings.ToLower(host)
}
