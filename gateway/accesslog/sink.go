package accesslog

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	bufferBytes = 1 << 20
	flushEvery  = 200 * time.Millisecond
	closeWait   = 2 * time.Second // for a reader that takes nothing
	tellEvery   = time.Minute     // of a file that still cannot be written
)

// Outputs that are no files.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Counts counts lines. It outlives a sink.
type Counts struct{ Written, Dropped atomic.Int64 }

// Sink is where lines go: a file, or what the process has open. It has a goroutine until it is closed.
type Sink struct {
	output string
	counts *Counts
	logger *slog.Logger

	mu      sync.Mutex
	filling []byte // whole lines
	woken   bool   // the writer has been told that there is much
	closed  bool

	wake   chan struct{}
	reopen chan chan error
	ended  chan struct{} // closed when the writer has ended

	// The writer's own.
	to      io.Writer
	writing []byte
	torn    []byte // the rest of a line of which a part has been written
	lost    int64  // lines since the first write that failed
	told    time.Time
}

// Open opens an output, [Stdout], [Stderr] or the path of a file, which is appended to and made if it is not there.
func Open(output string, c *Counts, l *slog.Logger) (*Sink, error) {
	w, err := open(output)
	if err != nil {
		return nil, err
	}
	return start(output, w, c, l), nil
}

func start(output string, w io.Writer, c *Counts, l *slog.Logger) *Sink {
	s := &Sink{
		output: output, counts: c, logger: l, to: w,
		filling: make([]byte, 0, bufferBytes), writing: make([]byte, 0, bufferBytes),
		wake: make(chan struct{}, 1), reopen: make(chan chan error), ended: make(chan struct{}),
	}
	go s.run()
	return s
}

func open(output string) (io.Writer, error) {
	switch output {
	case Stdout:
		return os.Stdout, nil
	case Stderr:
		return os.Stderr, nil
	}
	// A pipe without a reader fails, in place of a wait for one.
	f, err := os.OpenFile(output, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("accesslog: %w", err)
	}
	return f, nil
}

// Output returns what the sink was opened with.
func (s *Sink) Output() string { return s.output }

// put takes a line, or drops it when there is no room. False: the sink is closed.
func (s *Sink) put(line []byte) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	fits := len(s.filling)+len(line) <= cap(s.filling)
	if fits {
		s.filling = append(s.filling, line...)
	}
	wake := !s.woken && len(s.filling) > cap(s.filling)/2
	s.woken = s.woken || wake
	s.mu.Unlock()
	if !fits {
		s.counts.Dropped.Add(1)
	}
	if wake {
		s.signal()
	}
	return true
}

func (s *Sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Reopen opens the file anew, after it was renamed as a rule. On an error the sink goes on with the old one. What the
// process has open is not opened again.
func (s *Sink) Reopen() error {
	reply := make(chan error, 1)
	select {
	case s.reopen <- reply:
		return <-reply
	case <-s.ended:
		return nil
	}
}

// Close writes what there is and closes the file. Lines that come later are not taken.
func (s *Sink) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-t.C:
		s.logger.Error("the access log could not be written to its end", "output", s.output)
	}
}

// run is the writer's goroutine.
func (s *Sink) run() {
	defer close(s.ended)
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.wake:
		case reply := <-s.reopen:
			s.flush()
			reply <- s.replace()
			continue
		}
		if s.flush() {
			s.close()
			return
		}
	}
}

// flush writes what there is. closed: nothing more will come.
func (s *Sink) flush() (closed bool) {
	s.mu.Lock()
	s.filling, s.writing = s.writing[:0], s.filling
	s.woken, closed = false, s.closed
	s.mu.Unlock()
	if len(s.writing) > 0 || len(s.torn) > 0 {
		s.write()
	}
	return closed
}

// write writes the buffer. What of it cannot be written is dropped, but for the rest of a line that was begun.
func (s *Sink) write() {
	p := s.writing
	if len(s.torn) > 0 {
		n, err := s.to.Write(s.torn)
		if s.torn = s.torn[n:]; err != nil {
			s.failed(err, bytes.Count(p, newline))
			return
		}
		s.counts.Written.Add(1)
	}
	n, err := s.to.Write(p)
	whole := bytes.Count(p[:n], newline)
	s.counts.Written.Add(int64(whole))
	if err == nil {
		s.recovered()
		return
	}
	rest := p[n:]
	if n > 0 && p[n-1] != '\n' {
		end := bytes.IndexByte(rest, '\n') + 1
		s.torn, rest = bytes.Clone(rest[:end]), rest[end:]
	}
	s.failed(err, bytes.Count(rest, newline))
}

var newline = []byte{'\n'}

func (s *Sink) failed(err error, lines int) {
	s.counts.Dropped.Add(int64(lines))
	s.lost += int64(lines)
	now := time.Now()
	if now.Sub(s.told) >= tellEvery {
		s.told = now
		s.logger.Error("the access log cannot be written, its lines are dropped", "output", s.output, "error", err,
			"dropped", s.lost)
	}
}

func (s *Sink) recovered() {
	if !s.told.IsZero() {
		s.logger.Info("the access log is written again", "output", s.output, "dropped", s.lost)
		s.told, s.lost = time.Time{}, 0
	}
}

// replace opens the file anew.
func (s *Sink) replace() error {
	old, ok := s.to.(*os.File)
	if !ok || s.output == Stdout || s.output == Stderr {
		return nil
	}
	w, err := open(s.output)
	if err != nil {
		s.logger.Error("the access log's file cannot be opened again, the old one is written to", "output", s.output,
			"error", err)
		return err
	}
	s.to = w
	if len(s.torn) > 0 { // its beginning is in the old file
		s.torn = nil
		s.counts.Dropped.Add(1)
	}
	if err := old.Close(); err != nil {
		s.logger.Error("the access log's old file could not be closed", "output", s.output, "error", err)
	}
	s.logger.Info("the access log's file was opened again", "output", s.output)
	return nil
}

func (s *Sink) close() {
	if len(s.torn) > 0 {
		s.counts.Dropped.Add(1)
	}
	f, ok := s.to.(*os.File)
	if !ok || s.output == Stdout || s.output == Stderr {
		return
	}
	if err := f.Close(); err != nil {
		s.logger.Error("the access log's file could not be closed", "output", s.output, "error", err)
	}
}
