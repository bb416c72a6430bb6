package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/cmd/sluice-dtm/dtmembedded"
)

// settings is what the flags say.
type settings struct {
	listen        string
	hosts         []string // by which others than this machine may call it
	data          string
	cron          time.Duration
	branchTimeout time.Duration
	store         string
	keepFor       time.Duration
	keepMax       int
	alert         string
	level         slog.Level
}

// branchTimeoutMax keeps a pass (two seconds more than one branch call) inside the ten seconds for
// which DTM reserves a transaction for it; beyond, another pass would call the same branch again
// while the first call still runs.
const branchTimeoutMax = 7 * time.Second

// The limits of what is kept.
const (
	keepForMax = 10 * 365 * 24 * time.Hour
	keepMaxMin = 1000
)

var storeNames = []string{embedded, boltdb, redis, mysql, postgres}

// parseSettings reads the flags and passes to DTM, through its environment names, what it reads
// from there. The error is one of usage.
func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("sluice-dtm", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.listen, "listen", "127.0.0.1:36789",
		"`address` to listen on, a loopback one unless there are --hosts; port 0 takes a free one")
	hosts := f.String("hosts", os.Getenv("HOSTS"), "comma-separated `names` and addresses by which the gateways of a "+
		"private network call it: whoever can reach it can have it call any URL")
	f.StringVar(&s.data, "data", ".", "`folder` of the embedded store; made if missing")
	f.DurationVar(&s.cron, "cron", time.Second, "how often to look for transactions that are due, whole seconds")
	f.DurationVar(&s.branchTimeout, "branch-timeout", 3*time.Second, "limit of one branch call, whole seconds")
	f.DurationVar(&s.keepFor, "keep-for", dtmembedded.KeepForDefault,
		"how long a transaction that has ended is kept, at least 1h, whole seconds")
	f.IntVar(&s.keepMax, "keep-max", dtmembedded.KeepMaxDefault,
		"how many of those the embedded store keeps; beyond it the oldest go before their time")
	f.StringVar(&s.alert, "alert-webhook", os.Getenv("ALERT_WEB_HOOK"),
		"`URL` that is told of branches that failed three times and more; with a secret in it better in ALERT_WEB_HOOK")
	f.TextVar(&s.level, "log-level", slog.LevelWarn, "debug, info, warn or error")
	store := map[string]*string{
		"STORE_DRIVER": f.String("store", env("STORE_DRIVER", embedded), strings.Join(storeNames, ", ")),
		"STORE_HOST":   f.String("store-host", os.Getenv("STORE_HOST"), "host of the store"),
		"STORE_PORT":   f.String("store-port", os.Getenv("STORE_PORT"), "port of the store"),
		"STORE_USER":   f.String("store-user", os.Getenv("STORE_USER"), "user at the store"),
		"STORE_PASSWORD": f.String("store-password", "",
			"password at the store; better in STORE_PASSWORD, where other users of the machine do not see it"),
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	for name := range strings.SplitSeq(*hosts, ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			s.hosts = append(s.hosts, name)
		}
	}
	if !isLoopback(s.listen) && len(s.hosts) == 0 {
		return s, fmt.Errorf("--listen %s: must be a loopback address, or there must be --hosts: DTM has no "+
			"authentication", s.listen)
	}
	for name, d := range map[string]time.Duration{"cron": s.cron, "branch-timeout": s.branchTimeout} {
		if d < time.Second || d%time.Second != 0 {
			return s, fmt.Errorf("--%s %v: must be whole seconds, at least 1s", name, d)
		}
	}
	if s.keepFor < time.Hour || s.keepFor%time.Second != 0 || s.keepFor > keepForMax {
		return s, fmt.Errorf("--keep-for %v: must be whole seconds, from 1h to %v", s.keepFor, keepForMax)
	}
	if s.keepMax < keepMaxMin {
		return s, fmt.Errorf("--keep-max %d: must be at least %d", s.keepMax, keepMaxMin)
	}
	if err := checkWebhook(s.alert); err != nil {
		return s, err
	}
	if s.branchTimeout > branchTimeoutMax {
		return s, fmt.Errorf("--branch-timeout %v: must be at most %v", s.branchTimeout, branchTimeoutMax)
	}
	if *store["STORE_PASSWORD"] == "" {
		delete(store, "STORE_PASSWORD") // keep the environment's
	}
	if err := checkStore(store); err != nil {
		return s, err
	}
	s.store = *store["STORE_DRIVER"]
	if s.store == embedded { // DTM's own checks know it not
		*store["STORE_DRIVER"] = boltdb
	}
	return s, setEnvironment(s, store)
}

// checkStore finds what DTM would end the process for.
func checkStore(store map[string]*string) error {
	driver := *store["STORE_DRIVER"]
	if !slices.Contains(storeNames, driver) {
		return fmt.Errorf("--store %s: must be one of %s", driver, strings.Join(storeNames, ", "))
	}
	port := *store["STORE_PORT"]
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("--store-port %s: must be from 1 to 65535", port)
		}
	}
	if driver == embedded || driver == boltdb {
		return nil
	}
	if *store["STORE_HOST"] == "" || port == "" {
		return fmt.Errorf("--store %s needs --store-host and --store-port", driver)
	}
	if driver != redis && *store["STORE_USER"] == "" {
		return fmt.Errorf("--store %s needs --store-user", driver)
	}
	return nil
}

// checkWebhook leaves the address, which can have a secret, out of the error.
func checkWebhook(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("--alert-webhook: must be a URL of http or https")
	}
	return nil
}

func setEnvironment(s settings, store map[string]*string) error {
	values := map[string]string{
		"REQUEST_TIMEOUT":      strconv.Itoa(int(s.branchTimeout / time.Second)),
		"TRANS_CRON_INTERVAL":  strconv.Itoa(int(s.cron / time.Second)),
		"UPDATE_BRANCH_SYNC":   "1", // a branch's result is stored before the next one is called, not within 200 ms
		"RETRY_INTERVAL":       "10",
		"TIMEOUT_TO_FAIL":      env("TIMEOUT_TO_FAIL", "35"),
		"MICRO_SERVICE_DRIVER": "default",
		"LOG_LEVEL":            s.level.String(),
		"ALERT_WEB_HOOK":       s.alert,
		// How long DTM's own stores keep what has ended. Redis forgets by the first what has not ended: never.
		"STORE_DATA_EXPIRE":          strconv.Itoa(int(keepForMax / time.Second)),
		"STORE_FINISHED_DATA_EXPIRE": strconv.Itoa(int(s.keepFor / time.Second)),
	}
	if s.store == boltdb {
		values["STORE_DATA_EXPIRE"] = values["STORE_FINISHED_DATA_EXPIRE"]
	}
	for name, v := range store {
		values[name] = *v
	}
	for name, v := range values {
		if err := os.Setenv(name, v); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
