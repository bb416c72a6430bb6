package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// fileMax is how many bytes a file of endpoints may have.
const fileMax = 1 << 20

// file is a file of endpoints.
type file struct {
	from  *config.EndpointsFrom
	every time.Duration

	taken []byte // what was read rightly last
	seen  []byte // what the last look found, if that was something else
	done  bool   // there is a taken
}

// run implements [source].
func (f *file) run(ctx context.Context, r reporter) {
	for ok := true; ok; ok = sleep(ctx, f.every) {
		f.look(r)
	}
}

// look reads the file. The first time it is taken as it is, later when two looks found the same.
func (f *file) look(r reporter) {
	data, err := readFile(f.from.File, fileMax)
	switch {
	case err != nil:
		f.seen = nil
		r.failed(err)
		return
	case f.done && bytes.Equal(data, f.taken):
		f.seen = nil
		r.alive()
		return
	case f.done && (f.seen == nil || !bytes.Equal(data, f.seen)):
		f.seen = data
		return
	}
	endpoints, err := f.parse(data)
	if err != nil {
		f.seen = data
		r.failed(fmt.Errorf("%s: %w", f.from.File, err))
		return
	}
	f.taken, f.seen, f.done = data, nil, true
	r.found(endpoints, "")
}

// readFile reads a file that has no more than so many bytes. What is not there says so without the
// operation that found out.
func readFile(path string, bytesMax int64) ([]byte, error) {
	opened, err := os.Open(path)
	if err != nil {
		if e, ok := errors.AsType[*os.PathError](err); ok {
			err = fmt.Errorf("%s: %w", path, e.Err)
		}
		return nil, err
	}
	defer opened.Close() // it is only read
	data, err := io.ReadAll(io.LimitReader(opened, bytesMax+1))
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = fmt.Errorf("%s: %w", path, e.Err)
	}
	if err == nil && int64(len(data)) > bytesMax {
		err = fmt.Errorf("%s: it has more than %d bytes", path, bytesMax)
	}
	return data, err
}

var errEmptyFile = errors.New("it has no bytes, as a file that is being written; a list without endpoints is []")

// parse reads a list of endpoints: one a line, also with the dash of a list in YAML, or a list in JSON.
func (f *file) parse(data []byte) ([]config.Endpoint, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	if strings.TrimSpace(text) == "" {
		return nil, errEmptyFile
	}
	endpoints := []config.Endpoint{}
	add := func(written string) error {
		e, err := f.from.ParseEndpoint(written)
		if err != nil {
			return err
		}
		endpoints = append(endpoints, e)
		return f.speaksOne(endpoints)
	}
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var list []string
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, fmt.Errorf("it is not a JSON list of texts: %w", err)
		}
		for i, written := range list {
			if err := add(written); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return endpoints, nil
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line = strings.TrimSpace(strings.TrimPrefix(line, "- ")); line == "" || line[0] == '#' {
			continue
		}
		if before, _, ok := strings.Cut(line, " #"); ok {
			line = strings.TrimSpace(before)
		}
		if n := len(line); n > 1 && (line[0] == '"' || line[0] == '\'') && line[n-1] == line[0] {
			line = line[1 : n-1]
		}
		if err := add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return endpoints, nil
}

// speaksOne refuses cleartext HTTP/1.1 and HTTP/2 beside one another, as the configuration does.
func (f *file) speaksOne(list []config.Endpoint) error {
	last := list[len(list)-1]
	for _, e := range list {
		if !e.TLS && !last.TLS && e.HTTP2 != last.HTTP2 {
			return fmt.Errorf("%q and %q: a service speaks HTTP/1.1 or h2c, not both", e.Address, last.Address)
		}
	}
	return nil
}
