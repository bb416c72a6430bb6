package simulation

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
)

// toldWithin is how long after everything has ended the receiver has been told: a search for what others left, and the
// delay that attempts before the end of trouble have come to.
const toldWithin = 5 * time.Minute

// Notify and NotifyRoutes implement transaction.Services.
func (g *gateway) Notify(string) (notify.Receiver, bool) {
	return notify.Receiver{URL: "http://receiver.test/", Secret: []byte("secret")}, g.w.plan.notify
}

func (g *gateway) NotifyRoutes() []string {
	if g.w.plan.notify {
		return []string{"checkout"}
	}
	return nil
}

// receiving is a gateway's way to the receiver.
type receiving struct{ g *gateway }

// RoundTrip implements [http.RoundTripper].
func (r receiving) RoundTrip(req *http.Request) (*http.Response, error) {
	w, gid := r.g.w, req.Header.Get("Sluice-Transaction")
	label := r.g.name + " notifies of " + name(gid)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	d, p := w.dice(label), w.trouble()
	lost, lostBack, refused := d.chance(p), d.chance(p), d.chance(p)
	time.Sleep(d.between(50*time.Microsecond, 300*time.Millisecond))
	if lost || r.g.isDead() {
		return nil, errReset
	}
	status := 200
	if refused {
		status = 500
	} else {
		w.notice(label, gid, req.Header.Get(notify.SignatureHeader), body)
	}
	if lostBack || r.g.isDead() {
		return nil, errReset
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// notice judges what the receiver is told.
func (w *world) notice(label, gid, signature string, body []byte) {
	var v transaction.View
	err := json.Unmarshal(body, &v)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traceLocked("%s: %s", label, v.State)
	before := w.notified[gid]
	switch {
	case err != nil || v.ID != gid || signature == "":
		w.failLocked("%s: %s, %v", label, body, err)
	case !v.State.Final() && !w.forgotten[gid]:
		w.failLocked("%s: it is %s", label, v.State)
	case before != "" && before != string(v.State):
		w.failLocked("%s: it is %s, and was %s before", label, v.State, before)
	case before != "":
		w.seen["notified again"]++
	}
	w.notified[gid] = string(v.State)
	if v.State.Final() {
		w.seen["notified "+string(v.State)]++
		w.tellLocked(gid, string(v.State), label)
	}
}

// auditNotices: the receiver was told of all that have an end, but for what was lost or forgotten.
func (w *world) auditNotices() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, gid := range slices.Sorted(maps.Keys(w.dtm.rows)) {
		if r := w.dtm.rows[gid]; r.ended() && !w.dtm.forgot[gid] && !w.forgotten[gid] && w.told[gid] != "" &&
			w.notified[gid] == "" {
			w.failLocked("the receiver was not told that %s is %s", name(gid), w.told[gid])
		}
	}
}

// register brings the registration of a branch of XA to a gateway, and returns what becomes of the do.
func (w *world) register(label string, q url.Values) int {
	d, p := w.dice(label+" registers"), w.trouble()
	lost, lostBack := d.chance(p/2), d.chance(p/2)
	time.Sleep(d.between(50*time.Microsecond, 3*time.Millisecond))
	prefix, err := url.Parse(q.Get("dtm"))
	if err != nil {
		panic(err)
	}
	g := w.target(q.Get("dtm"), d.IntN(64))
	if lost || g == nil || g.isDead() {
		return 500
	}
	body, err := json.Marshal(map[string]string{"gid": q.Get("gid"), "trans_type": "xa",
		"branch_id": q.Get("branch_id"), "url": q.Get("phase2_url")})
	if err != nil {
		panic(err)
	}
	rec := httptest.NewRecorder()
	g.bridge.ServeHTTP(rec, httptest.NewRequest("POST", prefix.Path+"/registerBranch", strings.NewReader(string(body))))
	w.trace("%s registers: %d", label, rec.Code)
	switch {
	case lostBack || g.isDead():
		return 500
	case rec.Code == 409:
		return 409
	case rec.Code != 200:
		return 500
	}
	return 200
}
