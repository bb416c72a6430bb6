package accesslog

import (
	"math/rand/v2"
	"sync"
)

// Settings say which requests are written, and how.
type Settings struct {
	JSON   bool    // else text
	Sample float64 // the share of responses that are written, 0 to 1; refusals and 5xx always are
	Plain  bool    // principals are written as they are, else hashed
}

// Log writes entries to a sink. It does not change, and is safe for concurrent use.
type Log struct {
	settings Settings
	sink     *Sink
}

// New returns a log on a sink, which several logs may write to one after the other.
func New(s Settings, sink *Sink) *Log { return &Log{s, sink} }

// Sink returns where the log writes to.
func (l *Log) Sink() *Sink { return l.sink }

// Takes reports whether a request is written, by its status and the gateway's reason.
func (l *Log) Takes(status int, reason string) bool {
	return l.settings.Sample >= 1 || reason != "" || status >= 500 || rand.Float64() < l.settings.Sample
}

type line struct{ b []byte }

var lines = sync.Pool{New: func() any { return &line{make([]byte, 0, 1024)} }}

// Write writes the line of an entry, or counts it as dropped. False: the sink has been closed, and another log is in
// force.
func (l *Log) Write(e *Entry) bool {
	n := lines.Get().(*line)
	n.b = appendEntry(n.b[:0], e, l.settings.JSON, !l.settings.Plain)
	ok := l.sink.put(n.b)
	lines.Put(n)
	return ok
}
