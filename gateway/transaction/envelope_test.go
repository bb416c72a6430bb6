package transaction

import (
	"encoding/json"
	"reflect"
	"testing"
)

var envelopes = map[string]*envelope{
	"empty": {},
	"saga": {
		Transaction: "checkout", Route: "order", Principal: "ann", RetryMax: 30_000, Behind: []string{"pay", "points"},
		Inject: [][2]string{{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, {"Via", ""}},
		FailOn: [][2]int{{402, 402}, {409, 410}},
		Do: &envelopeCall{Service: "stock", Method: "POST", Path: "/do", Query: "a=1",
			Body: []byte(`{"sku":"x:1"}`), Headers: [][2]string{{"X-Tenant", "a:b"}}},
		Undo: &envelopeCall{Service: "stock", Method: "POST", Path: "/undo", Body: []byte(`{"sku":"x:1"}`),
			NothingOn: [][2]int{{404, 404}}},
	},
	"the same call twice": {
		Do:   &envelopeCall{Service: "s", Method: "POST", Path: "/"},
		Undo: &envelopeCall{Service: "s", Method: "POST", Path: "/"},
	},
	"all calls": {
		Mode: "tcc", Do: &envelopeCall{Service: "a"}, Undo: &envelopeCall{Service: "="},
		Query: &envelopeCall{Path: "/q"}, Confirm: &envelopeCall{Method: "PUT"}, Cancel: &envelopeCall{Query: "5:x"},
	},
	"no do": {Mode: "xa", Cancel: &envelopeCall{Service: "s"}},
	"texts that look like others": {
		Route: "3:abc", Principal: "~1", Behind: []string{"", "d", "="}, Do: &envelopeCall{Path: "u=0:"},
	},
}

// TestEnvelopes: what is written is read, and so is what an earlier version has written.
func TestEnvelopes(t *testing.T) {
	for name, e := range envelopes {
		got, err := unmarshal(marshal(e))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %+v %v\n%s", name, got, err, marshal(e))
		}
		before, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = unmarshal(before); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s as JSON: %+v %v", name, got, err)
		}
		if now := marshal(e); len(now) >= len(before) {
			t.Errorf("%s: %d bytes, as JSON %d", name, len(now), len(before))
		}
	}
}

// TestAnEnvelopeThroughJSON: it comes back from the coordinator's JSON as it was signed, whatever bytes a client sent.
func TestAnEnvelopeThroughJSON(t *testing.T) {
	e := &envelope{Principal: "a\xff\xfeb", Inject: [][2]string{{"Via", "\x80\"\\\u2028<>&\x00"}},
		Do: &envelopeCall{Path: "/\xc3\x28"}}
	text, err := json.Marshal(string(marshal(e)))
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(text, &back); err != nil || back != string(marshal(e)) {
		t.Errorf("%q %v, want %q", back, err, marshal(e))
	}
	if got, err := unmarshal([]byte(back)); err != nil || got.Principal != "a\uFFFDb" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestFaultyEnvelopes(t *testing.T) {
	good := string(marshal(envelopes["saga"]))
	for i := range good {
		if e, err := unmarshal([]byte(good[:i])); err == nil && string(marshal(e)) != good[:i] { // without a call
			t.Errorf("cut off at %d: %s", i, good[:i])
		}
	}
	for _, text := range []string{
		"~1", good + "x", good + "d", "~2" + good[2:], "~1-1:", "~1999999999999999999999:", "~19:a", "null", "",
		"~10:0:0:0:0:99999999:", "~10:0:0:0:0:0:0:0:d=====0:0:",
	} {
		e, err := unmarshal([]byte(text))
		if err == nil && text != "null" {
			t.Errorf("%q is %+v", text, e)
		}
	}
}

// FuzzEnvelope: what can be read is written as something that reads the same.
func FuzzEnvelope(f *testing.F) {
	for _, e := range envelopes {
		f.Add(marshal(e))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := unmarshal(payload)
		if err != nil {
			return
		}
		once := marshal(e)
		again, err := unmarshal(once)
		if err != nil || string(marshal(again)) != string(once) {
			t.Errorf("%q is read as %+v, and then as %+v, %v", payload, e, again, err)
		}
	})
}
