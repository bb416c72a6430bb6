package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	listTime    = time.Minute // for a whole list
	listPage    = 500         // slices
	listMax     = 64 << 20    // bytes of a list
	slicesMax   = 5000
	eventMax    = 8 << 20         // bytes of an event
	watchTime   = 4 * time.Minute // how long the server is asked to watch, at least
	watchSpread = 2 * time.Minute // how much longer by chance, so that a fleet does not come back in step
	watchGrace  = 15 * time.Second
	quickEnd    = time.Second // a watch that ends sooner counts as a failure
)

// slicesSource is a service of a cluster.
type slicesSource struct {
	from    *config.EndpointsFrom
	cluster *cluster
	retry   backoff
	gather  time.Duration // the least time between two lists that are reported

	slices  map[string]*endpointSlice // by name
	version string                    // resourceVersion up to which they are complete
}

// run implements [source].
func (k *slicesSource) run(ctx context.Context, r reporter) {
	since := "0" // what the server has in its cache will do
	for ctx.Err() == nil {
		err := k.list(ctx, since)
		listed := err == nil
		if listed {
			r.found(merge(k.from, k.slices))
			err = k.follow(ctx, r)
		}
		if ctx.Err() != nil {
			return
		}
		gone := errors.Is(err, errGone)
		if since = k.version; gone {
			since = "" // what the server's store has
		}
		if !gone || !listed { // of a watch that is how the API goes on, and no failure
			r.failed(err)
		}
		if !sleep(ctx, k.retry.next()) {
			return
		}
	}
}

// target returns the path and the query of a request.
func (k *slicesSource) target(query url.Values) string {
	query.Set("labelSelector", serviceLabel+"="+k.from.Kubernetes.Service)
	return "/apis/discovery.k8s.io/v1/namespaces/" + url.PathEscape(k.from.Kubernetes.Namespace) +
		"/endpointslices?" + query.Encode()
}

// list reads all slices, page by page, in place of those that are known.
func (k *slicesSource) list(ctx context.Context, since string) error {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	all, version, left := map[string]*endpointSlice{}, "", int64(listMax)
	query := url.Values{"limit": {strconv.Itoa(listPage)}}
	if since != "" {
		query.Set("resourceVersion", since)
	}
	for {
		page, read, err := k.page(ctx, query, left)
		if err != nil {
			return err
		}
		for i := range page.Items {
			k.put(all, &page.Items[i])
		}
		version, left = page.Metadata.ResourceVersion, left-read
		if len(all) > slicesMax {
			return fmt.Errorf("kubernetes: the service has more than %d EndpointSlices", slicesMax)
		}
		if page.Metadata.Continue == "" {
			break
		}
		query.Del("resourceVersion") // the token says of what the pages are
		query.Set("continue", page.Metadata.Continue)
	}
	if version == "" {
		return errors.New("kubernetes: the list has no resourceVersion: what answers is no API server")
	}
	k.slices, k.version = all, version
	return nil
}

type slicePage struct {
	Kind     string `json:"kind"`
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
	Items []endpointSlice `json:"items"`
}

func (k *slicesSource) page(ctx context.Context, query url.Values, bytesMax int64) (*slicePage, int64, error) {
	resp, err := k.cluster.get(ctx, k.target(query))
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close() // it is only read
	data, err := io.ReadAll(io.LimitReader(resp.Body, bytesMax+1))
	if err != nil {
		return nil, 0, fmt.Errorf("kubernetes: reading the list: %w", err)
	}
	if int64(len(data)) > bytesMax {
		return nil, 0, fmt.Errorf("kubernetes: the list has more than %d bytes", listMax)
	}
	page := new(slicePage)
	if err := json.Unmarshal(data, page); err != nil {
		return nil, 0, fmt.Errorf("kubernetes: the list is not right: %w", err)
	}
	if page.Kind != "EndpointSliceList" {
		return nil, 0, fmt.Errorf("kubernetes: what came is %.60q and not an EndpointSliceList", page.Kind)
	}
	return page, int64(len(data)), nil
}

// put adds a slice that is one of the service, whatever the server selects by.
func (k *slicesSource) put(all map[string]*endpointSlice, s *endpointSlice) {
	of := k.from.Kubernetes
	if s.Metadata.Labels[serviceLabel] == of.Service && s.Metadata.Namespace == of.Namespace {
		all[s.Metadata.Name] = s
	} else {
		delete(all, s.Metadata.Name)
	}
}

// follow watches, one watch behind another, until all has to be listed again, and returns why.
func (k *slicesSource) follow(ctx context.Context, r reporter) error {
	for {
		lived, err := k.watch(ctx, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errGone) || errors.Is(err, errGarbage) {
			return err
		}
		if lived >= quickEnd {
			k.retry.reset()
			if err == nil {
				continue
			}
		}
		if err != nil {
			r.failed(err)
		}
		if !sleep(ctx, k.retry.next()) {
			return ctx.Err()
		}
	}
}

// errGarbage says that a watch sent what cannot be understood, so that something may have been missed.
var errGarbage = errors.New("kubernetes: the watch sent what is not right")

// watch takes the events behind the version that is known, and returns how long that went on, and why it
// ended; nil when the server has ended it.
func (k *slicesSource) watch(ctx context.Context, r reporter) (lived time.Duration, err error) {
	limit := watchTime + rand.N(watchSpread)
	ctx, cancel := context.WithTimeout(ctx, limit+watchGrace)
	defer cancel()
	resp, err := k.cluster.get(ctx, k.target(url.Values{
		"watch": {"true"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {k.version},
		"timeoutSeconds": {strconv.Itoa(int(limit / time.Second))},
	}))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	r.alive()
	events := make(chan received)
	var reader sync.WaitGroup
	reader.Go(func() { readEvents(ctx, resp.Body, events) })
	defer func() {
		cancel()
		_ = resp.Body.Close() // it was only read
		reader.Wait()
	}()
	err = k.take(ctx, events, r)
	return time.Since(began), err
}

// received is an event, or why none comes any more.
type received struct {
	event
	err error
}

// take takes events until there are no more, or ctx ends, and reports what they make of the endpoints:
// at once when one comes after a while, and then together what comes within a short time. A roll-out of
// many pods is many events, and each list has all endpoints.
func (k *slicesSource) take(ctx context.Context, events <-chan received, r reporter) (err error) {
	gather := time.NewTimer(0)
	defer gather.Stop()
	changed, ready, goesOn := false, false, true
	for goesOn && err == nil {
		select {
		case <-ctx.Done():
			goesOn = false
		case <-gather.C:
			ready = true
		case got := <-events:
			if goesOn = got.err != io.EOF; !goesOn {
				break
			}
			moved := false
			if err = got.err; err == nil {
				moved, err = k.apply(&got.event)
			}
			if changed = changed || moved; err == nil && !changed {
				r.alive()
			}
		}
		if changed && (ready || !goesOn || err != nil) {
			changed, ready = false, false
			k.retry.reset()
			r.found(merge(k.from, k.slices))
			gather.Reset(k.gather)
		}
	}
	return err
}

// readEvents reads events until there are no more, or ctx ends.
func readEvents(ctx context.Context, from io.Reader, events chan<- received) {
	body := &bounded{from: from}
	decoder := json.NewDecoder(body)
	for {
		body.left = eventMax
		var got received
		if err := decoder.Decode(&got.event); err != nil {
			got.err = endOfWatch(body, err)
		}
		select {
		case events <- got:
		case <-ctx.Done():
			return
		}
		if got.err != nil {
			return
		}
	}
}

// endOfWatch says why no event came: [io.EOF] when the server has ended the watch; the connection broke,
// or what came is no event.
func endOfWatch(body *bounded, err error) error {
	switch {
	case err == io.EOF:
		return err
	case body.err != nil: // that of the connection
		return fmt.Errorf("kubernetes: the watch broke: %w", body.err)
	}
	return fmt.Errorf("%w: %w", errGarbage, err)
}

// event is one of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// apply takes an event, and reports whether a slice has changed.
func (k *slicesSource) apply(e *event) (changed bool, err error) {
	if e.Type == "ERROR" {
		var said statusObject
		if err := json.Unmarshal(e.Object, &said); err != nil {
			return false, fmt.Errorf("%w: %w", errGarbage, err)
		}
		return false, said.err(said.Code)
	}
	s := new(endpointSlice)
	if err := json.Unmarshal(e.Object, s); err != nil {
		return false, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if s.Metadata.ResourceVersion == "" {
		return false, fmt.Errorf("%w: an event %.20q without a resourceVersion", errGarbage, e.Type)
	}
	switch e.Type {
	case "ADDED", "MODIFIED":
		k.put(k.slices, s)
	case "DELETED":
		delete(k.slices, s.Metadata.Name)
	case "BOOKMARK":
		k.version = s.Metadata.ResourceVersion
		return false, nil
	default:
		return false, fmt.Errorf("%w: an event of type %.20q", errGarbage, e.Type)
	}
	if len(k.slices) > slicesMax {
		return false, fmt.Errorf("%w: more than %d EndpointSlices", errGarbage, slicesMax)
	}
	k.version = s.Metadata.ResourceVersion
	return true, nil
}

// bounded reads no more than left, and keeps the error of the reader.
type bounded struct {
	from io.Reader
	left int64
	err  error
}

var errLong = fmt.Errorf("an event of more than %d bytes", eventMax)

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLong
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
