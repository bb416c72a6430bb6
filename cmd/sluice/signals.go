package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that the first SIGTERM or SIGINT ends; a second one ends the
// process at once, exit 1.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-signals:
				if n > 0 {
					os.Exit(1)
				}
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// hangups returns a channel that asks for a reload at each SIGHUP.
func hangups() (<-chan struct{}, func()) { return each(syscall.SIGHUP) }

// rotations returns a channel that asks for logs to be opened again at each SIGUSR1.
func rotations() (<-chan struct{}, func()) { return each(syscall.SIGUSR1) }

// each returns a channel that has a value for each signal; several that come at once may be one.
func each(s os.Signal) (<-chan struct{}, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, s)
	reload, done := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case <-done:
				return
			case reload <- struct{}{}:
			}
		}
	}()
	return reload, func() {
		signal.Stop(signals)
		close(done)
	}
}
