package gateway

import "testing"

func TestWhoGetsEvents(t *testing.T) {
	for accept, want := range map[string]bool{
		"text/event-stream":                                true,
		"Text/Event-Stream; q=0.1":                         true,
		"text/event-stream;charset=utf-8;q=0.5":            true,
		"application/json;q=0.5, text/event-stream":        true,
		"text/event-stream, application/json":              true, // no preference: the one that only it names
		"application/json, text/event-stream;q=0.9":        false,
		"application/json;q=0.2, text/event-stream;q=0.10": false,
		"text/event-stream;q=0":                            false,
		"text/event-stream;q=0.000":                        false,
		"text/event-stream;q=x":                            false,
		"text/event-stream;q=2":                            false,
		"*/*":                                              false,
		"":                                                 false,
	} {
		if got := wantsEvents(accept); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
