package kubeapi

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const serviceLabel = "kubernetes.io/service-name"

// Server is a running API server. It is safe for concurrent use.
type Server struct {
	URL   string
	CA    string // the file of its authority
	Token string // the file of a token that it takes

	server *httptest.Server
	mu     sync.Mutex
	now    int    // the resource version
	oldest int    // versions below it are gone
	token  string // that is taken
	slices map[string]*Slice
	events []event
	moved  chan struct{} // closed and replaced at each change
	cut    chan struct{} // closed and replaced to break all watches
	faults []Fault
	seen   []Request

	watching int
}

type event struct {
	version int
	kind    string // ADDED, MODIFIED, DELETED, BOOKMARK
	slice   *Slice // nil of a bookmark
}

// Fault is what the server does to one request in place of answering it.
type Fault struct {
	Watch  bool   // to a watch, else to a list
	Status int    // this status; 0: 200
	Body   string // and this body; of a watch with 200 it comes before the events
	Event  bool   // Body is the end of the watch
	Hang   bool   // nothing is sent until the client leaves
	Abort  bool   // the connection is aborted behind the head
	Stays  bool   // until Heal, and not for one request
}

// Request is one that was made.
type Request struct {
	Watch           bool
	ResourceVersion string
	Continue        string
	Limit           int
	Bookmarks       bool
	Token           string
}

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		now: 100, token: "first-token", slices: map[string]*Slice{}, moved: make(chan struct{}),
		cut: make(chan struct{}),
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.EnableHTTP2 = true
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are broken on purpose
	s.server.StartTLS()
	t.Cleanup(func() {
		s.Disconnect()
		s.server.CloseClientConnections()
		s.server.Close()
	})
	dir := t.TempDir()
	s.URL, s.CA, s.Token = s.server.URL, filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	for path, data := range map[string][]byte{s.CA: ca, s.Token: []byte("first-token\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Put adds a slice, or replaces that of its name.
func (s *Server) Put(slice Slice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, kind := slice.Namespace+"/"+slice.Name, "MODIFIED"
	if s.slices[key] == nil {
		kind = "ADDED"
	}
	s.slices[key] = &slice
	s.happenLocked(kind, &slice)
}

// Delete removes a slice.
func (s *Server) Delete(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slice := s.slices[namespace+"/"+name]
	delete(s.slices, namespace+"/"+name)
	s.happenLocked("DELETED", slice)
}

// Bookmark moves the version on and tells the watches that ask for it.
func (s *Server) Bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.happenLocked("BOOKMARK", nil)
}

func (s *Server) happenLocked(kind string, slice *Slice) {
	s.now++
	s.events = append(s.events, event{s.now, kind, slice})
	close(s.moved)
	s.moved = make(chan struct{})
}

// Compact forgets what happened before: watches that begin there are told 410.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.oldest, s.events = s.now, nil
}

// Restore goes back to an earlier version, as a cluster from a backup: what is newer is not known.
func (s *Server) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.events, s.oldest = 10, nil, 0
}

// Disconnect breaks all watches.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cut)
	s.cut = make(chan struct{})
}

// Take changes the token that is taken.
func (s *Server) Take(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Fail has the next requests that a fault is for meet it, one each, in their order.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Heal ends all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Watching returns how many watches run.
func (s *Server) Watching() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watching
}

func (s *Server) countWatch(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watching += n
}

// Requests returns those that were made.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit")) // 0 is none
	req := Request{
		Watch: query.Get("watch") == "true", ResourceVersion: query.Get("resourceVersion"), Limit: limit,
		Continue: query.Get("continue"), Bookmarks: query.Get("allowWatchBookmarks") == "true",
		Token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
	}
	namespace, ok := strings.CutPrefix(r.URL.Path, "/apis/discovery.k8s.io/v1/namespaces/")
	namespace, rest, _ := strings.Cut(namespace, "/")
	service, selects := strings.CutPrefix(query.Get("labelSelector"), serviceLabel+"=")
	fault, taken := s.note(req)
	switch {
	case r.Method != http.MethodGet || !ok || rest != "endpointslices" || !selects:
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	case !taken:
		refuse(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case fault != nil && !(fault.Watch && fault.Status == 0 && !fault.Hang && !fault.Abort):
		fail(w, r, fault)
	case req.Watch:
		timeout, _ := strconv.Atoi(query.Get("timeoutSeconds"))
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(max(timeout, 1))*time.Second)
		defer cancel()
		s.watch(ctx, w, req, namespace, service, fault)
	default:
		s.list(w, req, namespace, service)
	}
}

// note takes note of a request, and returns the fault that it meets and whether its token is taken.
func (s *Server) note(req Request) (*Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, req)
	if req.Token != s.token {
		return nil, false
	}
	i := slices.IndexFunc(s.faults, func(f Fault) bool { return f.Watch == req.Watch })
	if i < 0 {
		return nil, true
	}
	f := s.faults[i]
	if !f.Stays {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return &f, true
}

func fail(w http.ResponseWriter, r *http.Request, f *Fault) {
	if f.Hang {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if f.Status > 0 {
		w.WriteHeader(f.Status)
	}
	io.WriteString(w, f.Body) // a client that has left needs none
	if f.Abort {
		_ = http.NewResponseController(w).Flush() // likewise
		panic(http.ErrAbortHandler)
	}
}

func refuse(w http.ResponseWriter, status int, reason, message string, causes ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(statusOf(status, reason, message, causes...)) // a client that has left needs none
}

func statusOf(status int, reason, message string, causes ...string) json.RawMessage {
	list := []any{}
	for _, c := range causes {
		list = append(list, map[string]any{"reason": c})
	}
	return mustEncode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
		"code": status, "details": map[string]any{"causes": list},
	})
}

// list answers with all slices of a service, in pages where the version is not 0.
func (s *Server) list(w http.ResponseWriter, req Request, namespace, service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, _ := strconv.Atoi(req.ResourceVersion) // 0 and nothing are any
	if asked > s.now {
		refuse(w, http.StatusGatewayTimeout, "Timeout", fmt.Sprintf("Too large resource version: %d, current: %d",
			asked, s.now), "ResourceVersionTooLarge")
		return
	}
	var names []string
	for name, slice := range s.slices {
		if slice.Namespace == namespace && slice.Service == service {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if i, found := slices.BinarySearch(names, req.Continue); req.Continue != "" && found {
		names = names[i:]
	} else if req.Continue != "" {
		refuse(w, http.StatusGone, "Expired", "The provided continue parameter is too old")
		return
	}
	metadata := map[string]any{"resourceVersion": strconv.Itoa(s.now)}
	if req.Limit > 0 && len(names) > req.Limit && req.ResourceVersion != "0" {
		metadata["continue"], names = names[req.Limit], names[:req.Limit]
	}
	items := []json.RawMessage{}
	for _, name := range names {
		items = append(items, s.slices[name].encode(s.now))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(mustEncode(map[string]any{ // a client that has left needs none
		"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata, "items": items,
	}))
}

// since returns the events behind a version, and what tells of the next; gone where they are not known.
func (s *Server) since(version int) (list []event, moved, cut chan struct{}, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.version > version {
			list = append(list, e)
		}
	}
	return list, s.moved, s.cut, version < s.oldest
}

// watch sends events until its time is over, or it is broken.
func (s *Server) watch(
	ctx context.Context, w http.ResponseWriter, req Request, namespace, service string, fault *Fault,
) {
	version, _ := strconv.Atoi(req.ResourceVersion)
	list, moved, cut, gone := s.since(version)
	if gone && fault == nil {
		refuse(w, http.StatusGone, "Expired", "too old resource version")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out := http.NewResponseController(w)
	if fault != nil {
		io.WriteString(w, fault.Body)
	}
	if out.Flush() != nil || fault != nil && fault.Event {
		return
	}
	s.countWatch(1)
	defer s.countWatch(-1)
	for {
		for _, e := range list {
			version = e.version
			var object json.RawMessage
			switch {
			case e.slice != nil && e.slice.Namespace == namespace && e.slice.Service == service:
				object = e.slice.encode(e.version)
			case e.slice == nil && req.Bookmarks:
				object = mustEncode(map[string]any{"kind": "EndpointSlice",
					"metadata": map[string]any{"resourceVersion": strconv.Itoa(e.version)}})
			default:
				continue
			}
			fmt.Fprintf(w, "{\"type\":%q,\"object\":%s}\n", e.kind, object) // Flush tells
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-moved:
		}
		if list, moved, _, gone = s.since(version); gone {
			fmt.Fprintf(w, "{\"type\":\"ERROR\",\"object\":%s}\n",
				statusOf(http.StatusGone, "Expired", "too old resource version")) // the watch ends anyway
			return
		}
	}
}
