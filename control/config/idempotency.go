package config

import (
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Idempotency makes the requests of a route safe to repeat.
type Idempotency struct {
	Required       bool          `json:"required"`
	Key            Key           `json:"key"`
	Scope          []ref.Ref     `json:"scope" jsonschema:"uniqueItems=true"`
	Fingerprint    []ref.Ref     `json:"fingerprint" jsonschema:"minItems=1,uniqueItems=true"`
	TTL            Duration      `json:"ttl" config:"min=1s"`
	Lease          Duration      `json:"lease" config:"min=1s"`
	MaxInFlight    Duration      `json:"maxInFlight"`
	Record         []StatusRange `json:"record" jsonschema:"minItems=1"`
	NotExecuted    []StatusRange `json:"notExecuted"`
	WhileInFlight  WhileInFlight `json:"whileInFlight"`
	OnUnknown      string        `json:"onUnknown" jsonschema:"enum=hold,enum=retry,enum=probe"`
	Probe          *Probe        `json:"probe"` // set with OnUnknown probe
	MaxBody        Size          `json:"maxBody"`
	OmitHeaders    []string      `json:"omitHeaders" jsonschema:"uniqueItems=true,pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	MaxOpenKeys    int           `json:"maxOpenKeys" jsonschema:"minimum=0,maximum=1000000"` // 0: any number
	OnStoreFailure string        `json:"onStoreFailure" jsonschema:"enum=closed,enum=open"`  // closed | open
}

func (Idempotency) describe() descriptions {
	return descriptions{
		"":              "Makes requests safe to repeat.",
		"Required":      "A request without key is refused with 400.",
		"Key":           "Where the key stands: exactly one of header, body, derived.",
		"Scope":         "Within what a key is unique; the principal is always part of it.",
		"Fingerprint":   "What makes a request the same; the same key with another is refused with 422.",
		"TTL":           "How long a response is kept, from the end of the request.",
		"Lease":         "How long a claim holds without being renewed.",
		"MaxInFlight":   "How long a claim can be renewed.",
		"Record":        "Responses that are final; 408, 425 and 429 never are.",
		"NotExecuted":   "Responses by which the service says that it did nothing; 408, 425 and 429 always are.",
		"WhileInFlight": "What a duplicate gets while the first request runs: reject, or {wait: 3s}.",
		"OnUnknown": "hold; retry: the service honours the injected key; " +
			"probe: the service is asked what became of it.",
		"Probe":          "How the service is asked, for onUnknown: probe.",
		"OmitHeaders":    "Header fields of a response that are not kept with it.",
		"MaxBody":        "A longer response is passed on, and recorded as done but not replayable.",
		"MaxOpenKeys":    "Live keys that one principal may have on the route; beyond it 429. 0: any number.",
		"OnStoreFailure": "closed: 503. open: forward without protection.",
	}
}

func (i *Idempotency) setDefaults() {
	*i = Idempotency{
		Scope:       []ref.Ref{{Root: ref.Principal}, {Root: ref.Route}},
		Fingerprint: []ref.Ref{{Root: ref.Method}, {Root: ref.Path}, {Root: ref.Query}, {Root: ref.Body}},
		TTL:         duration(24 * time.Hour), Lease: duration(10 * time.Second),
		MaxInFlight: duration(60 * time.Second),
		Record:      []StatusRange{{200, 299}, {400, 499}}, NotExecuted: []StatusRange{{503, 503}},
		OnUnknown: "hold", MaxBody: 256 << 10, OnStoreFailure: "closed",
	}
}

func (i *Idempotency) derive(*files) {
	if !slices.ContainsFunc(i.Scope, func(r ref.Ref) bool { return r.Root == ref.Principal }) {
		// It is always part of it: a key is one principal's own.
		i.Scope = slices.Insert(i.Scope, 0, ref.Ref{Root: ref.Principal})
	}
}

func (i *Idempotency) check(s site) {
	i.checkKey(s)
	i.checkRefs(s)
	i.checkStatuses(s)
	i.checkTimes(s)
	if most := Size(64 << 20); i.MaxBody > most && s.sound(s.at("maxBody")) {
		s.fault(s.at("maxBody"), "%s is more than %s: what is kept is held in memory whole", i.MaxBody, most)
	}
	switch probe := s.at("probe"); {
	case i.OnUnknown == "probe" && !s.written(probe) && s.sound(s.at("onUnknown")):
		s.fault(s.at("onUnknown"),
			"probe needs to know how the service is asked: probe: {path: /v1/orders/by-key/{key}}")
	case i.OnUnknown != "probe" && s.written(probe) && s.sound(s.at("onUnknown")):
		s.fault(probe, "belongs to onUnknown: probe, and onUnknown is %s", i.OnUnknown)
	}
	if s.route.Transaction != "" {
		i.checkTransaction(s)
	}
}

func (i *Idempotency) warn(s site) {
	for n, name := range i.OmitHeaders {
		folded := foldName(name)
		if takenOut[folded] == ofConnection || folded == "set-cookie" || strings.HasPrefix(folded, "sluice-") {
			s.warn(s.at("omitHeaders").item(n), "%s is kept with no response", name)
		}
	}
}

func (i *Idempotency) checkKey(s site) {
	members := s.to("key").exactlyOne("a key is", true, "header", "body", "derived")
	if slices.Contains(members, "derived") {
		if i.Required {
			s.fault(s.at("required"), "true is not for a derived key: no client sends it")
		}
	} else if s.written(s.at("key", "window")) {
		s.fault(s.at("key", "window"), "belongs to a derived key")
	}
	if name := s.at("key", "header"); s.written(name) && s.sound(name) {
		if why := headerFault(i.Key.Header); why != "" {
			s.fault(name, "%s", why)
		}
	}
	for n, r := range i.Key.Derived {
		s.ref(r, s.at("key", "derived").item(n), s.params)
	}
}

func (i *Idempotency) checkRefs(s site) {
	for key, list := range map[string][]ref.Ref{"scope": i.Scope, "fingerprint": i.Fingerprint} {
		if !s.written(s.at(key)) {
			continue
		}
		added := len(list) - len(s.items(s.at(key))) // the principal that is always part of the scope
		for n, r := range list[max(added, 0):] {
			s.ref(r, s.at(key).item(n), s.params)
		}
	}
}

func (i *Idempotency) checkStatuses(s site) {
	for n, status := range i.Record {
		p := s.at("record").item(n)
		if status.From == status.To && slices.Contains([]int{408, 425, 429}, status.From) {
			s.fault(p, "%d is never final", status.From)
		}
		both := slices.ContainsFunc(i.NotExecuted, func(not StatusRange) bool { return not.Contains(status.From) })
		if status.From == status.To && both && s.sound(p) {
			s.fault(p, "%d is in notExecuted too: it says that the request was done, or that it was not", status.From)
		}
	}
	for n, status := range i.NotExecuted {
		if status.From <= 299 && status.To >= 200 {
			s.fault(s.at("notExecuted").item(n),
				"a 2xx says that the request was executed; its key would be free, and the next repeat executed again")
		}
	}
}

func (i *Idempotency) checkTimes(s site) {
	most := s.at("maxInFlight")
	if i.Lease > i.MaxInFlight && s.sound(s.at("lease"), most) {
		s.fault(s.firstWritten(s.at("lease"), most), "lease %s is more than maxInFlight %s", i.Lease, i.MaxInFlight)
	}
	wait := s.at("whileInFlight", "wait")
	if i.WhileInFlight.Wait > i.MaxInFlight && s.sound(wait, most) {
		s.fault(s.firstWritten(wait, most), "whileInFlight.wait %s is more than maxInFlight %s",
			i.WhileInFlight.Wait, i.MaxInFlight)
	}
}

// checkTransaction says what is not for a route that leads to a transaction.
func (i *Idempotency) checkTransaction(s site) {
	if i.OnUnknown != "hold" {
		s.fault(s.at("onUnknown"),
			"%s is not for a transaction: its coordinator knows the outcome, nothing is sent again", i.OnUnknown)
	}
	var plain Idempotency
	plain.setDefaults()
	for key, same := range map[string]bool{
		"record": slices.Equal(i.Record, plain.Record), "notExecuted": slices.Equal(i.NotExecuted, plain.NotExecuted),
		"maxBody": i.MaxBody == plain.MaxBody,
	} {
		if !same && s.sound(s.at(key)) {
			s.fault(s.at(key), "is not for a transaction: its outcome is recorded, and no service's response")
		}
	}
	if i.OnStoreFailure == "open" {
		s.fault(s.at("onStoreFailure"), "open is not for a transaction: it has a record, or it is not begun")
	}
}

// Key is where the idempotency key stands: exactly one of Header, Body, Derived.
type Key struct {
	Header  string    `json:"header" jsonschema:"pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	Body    *ref.Ref  `json:"body" config:"member"` // a member of the JSON body
	Derived []ref.Ref `json:"derived" jsonschema:"minItems=1,uniqueItems=true"`
	Window  Duration  `json:"window" config:"omitzero"` // derived: how long, from the end of the first request
}

func (Key) describe() descriptions {
	return descriptions{
		"Header":  "A header field.",
		"Body":    "A member of the JSON body.",
		"Derived": "Made from the request itself.",
		"Window":  "For derived: how long the same request is a duplicate, from the end of the first.",
	}
}

func (k *Key) derive(*files) {
	switch {
	case k.Derived != nil && k.Window == 0:
		k.Window = duration(10 * time.Second)
	case k.Header == "" && k.Body == nil && k.Derived == nil:
		k.Header = "Idempotency-Key"
	}
}

// WhileInFlight is what a duplicate gets while the first request runs: it waits so long, 0 is an immediate refusal.
type WhileInFlight struct {
	Wait Duration `json:"wait"`
}

func (WhileInFlight) describe() descriptions {
	return descriptions{
		"Wait": "How long a duplicate waits for the first response.",
	}
}

func (w *WhileInFlight) setDefaults() { w.Wait = duration(3 * time.Second) }

func (w *WhileInFlight) form() unionForm {
	wait := jsonschema.NewProperties()
	wait.Set("wait", &jsonschema.Schema{Ref: "#/$defs/Duration", Description: w.describe()["Wait"]})
	return unionForm{
		words: []string{"reject"}, want: "reject or {wait: 3s}",
		value: &jsonschema.Schema{
			Type: "object", Properties: wait, Required: []string{"wait"}, AdditionalProperties: jsonschema.FalseSchema,
		},
	}
}

func (w *WhileInFlight) setWord(string) { w.Wait = 0 }

func (w *WhileInFlight) word() string {
	if w.Wait == 0 {
		return "reject"
	}
	return ""
}

func (w *WhileInFlight) value() any { return nil }
