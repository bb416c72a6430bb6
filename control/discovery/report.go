package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// service is one whose endpoints are found, by one source: where that is another one, so is the
// service. All but what never changes is under the watcher's mu.
type service struct {
	watcher *Watcher
	name    string
	key     string // see SourceKey
	cancel  context.CancelFunc
	first   chan struct{} // closed at the first answer or failure

	heard     bool // first is closed
	inForce   bool // it is among the watcher's services
	ended     bool // what the source reports is nothing
	endpoints []config.Endpoint
	known     bool // endpoints are those of an answer, be it of the source before
	changed   bool // the update of endpoints waits
	status    Status
	logAt     time.Time // when a failure is logged again
	toldAt    time.Time // when a change was logged
	untold    int       // changes since then
}

var _ reporter = (*service)(nil)

// endLocked ends the source.
func (s *service) endLocked() {
	s.ended = true
	s.cancel()
}

const (
	endpointsMax = 5000 // of a service
	faultEvery   = time.Minute
	changeEvery  = time.Second
)

// found implements [reporter].
func (s *service) found(endpoints []config.Endpoint, note string) {
	slices.SortFunc(endpoints, func(a, b config.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Address, b.Address),
			cmp.Compare(a.Host, b.Host))
	})
	endpoints = slices.Compact(endpoints)
	if n := len(endpoints); n > endpointsMax {
		endpoints = endpoints[:endpointsMax]
		note = fmt.Sprintf("there are %d endpoints, the first %d are used", n, endpointsMax)
	}
	for _, log := range s.takeList(endpoints, note, time.Now()) {
		log.write(s.watcher.o.Logger)
	}
}

// takeList puts a list in place, and returns what is to be logged.
func (s *service) takeList(endpoints []config.Endpoint, note string, now time.Time) (logs []logLine) {
	w := s.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.ended {
		return nil
	}
	logs = s.answeredLocked(now)
	if note != s.status.Note && note != "" {
		logs = append(logs, logLine{slog.LevelWarn, "the source of endpoints says something odd",
			[]any{"service", s.name, "source", s.status.Source, "note", note}})
	}
	s.status.Note = note
	if !s.known || !slices.Equal(s.endpoints, endpoints) {
		logs = append(logs, s.changeLocked(endpoints, now)...)
		if s.inForce {
			w.wakeLocked()
		}
	}
	return logs
}

// changeLocked puts other endpoints in place. A service that has none any more is always told of.
func (s *service) changeLocked(endpoints []config.Endpoint, now time.Time) (logs []logLine) {
	old := s.endpoints
	s.endpoints, s.known, s.changed = endpoints, true, true
	s.status.Endpoints, s.status.Changed = len(endpoints), now
	s.status.changes++
	if len(endpoints) > 0 && now.Sub(s.toldAt) < changeEvery {
		s.untold++
		return nil
	}
	level, message := slog.LevelInfo, "the endpoints of a service have changed"
	if len(endpoints) == 0 {
		level, message = slog.LevelWarn, "a service has no endpoints: its source says so"
	}
	logs = []logLine{{level, message, []any{"service", s.name, "source", s.status.Source,
		"old", addresses(old), "new", addresses(endpoints), "left_out", s.untold}}}
	s.toldAt, s.untold = now, 0
	return logs
}

// addresses shows the first of a list.
func addresses(list []config.Endpoint) string {
	const shown = 10
	var out []string
	for _, e := range list[:min(len(list), shown)] {
		out = append(out, e.Address)
	}
	if len(list) > shown {
		out = append(out, fmt.Sprintf("and %d more", len(list)-shown))
	}
	return fmt.Sprint(out)
}

// answeredLocked notes that the source answers.
func (s *service) answeredLocked(now time.Time) (logs []logLine) {
	s.hearLocked()
	s.status.Answered = now
	if s.status.Fault != "" {
		after := now.Sub(s.status.FaultSince).Round(time.Second)
		logs = append(logs, logLine{slog.LevelInfo, "the source of endpoints answers again",
			[]any{"service", s.name, "source", s.status.Source, "after", after}})
	}
	s.status.Fault, s.status.FaultSince = "", time.Time{}
	return logs
}

// alive implements [reporter].
func (s *service) alive() {
	for _, log := range s.answered(time.Now()) {
		log.write(s.watcher.o.Logger)
	}
}

func (s *service) answered(now time.Time) []logLine {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	if s.ended {
		return nil
	}
	return s.answeredLocked(now)
}

// failed implements [reporter].
func (s *service) failed(err error) {
	for _, log := range s.fail(err, time.Now()) {
		log.write(s.watcher.o.Logger)
	}
}

func (s *service) fail(err error, now time.Time) []logLine {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	if s.ended {
		return nil
	}
	s.hearLocked()
	s.status.failures++
	if s.status.Fault == "" {
		s.status.FaultSince = now
	}
	s.status.Fault = err.Error()
	if now.Before(s.logAt) {
		return nil
	}
	s.logAt = now.Add(faultEvery)
	return []logLine{{slog.LevelWarn, "the source of endpoints is at fault; the endpoints known by now stay in use",
		[]any{"service", s.name, "source", s.status.Source, "endpoints", len(s.endpoints), "error", err,
			"silent_for", faultEvery}}}
}

func (s *service) hearLocked() {
	if !s.heard {
		s.heard = true
		close(s.first)
	}
}

// logLine is written when no lock is held.
type logLine struct {
	level   slog.Level
	message string
	args    []any
}

func (l logLine) write(logger *slog.Logger) {
	logger.Log(context.Background(), l.level, l.message, l.args...)
}
