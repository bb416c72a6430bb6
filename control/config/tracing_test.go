package config

import (
	"maps"
	"strings"
	"testing"
)

// TestTracing: off unless written, with the defaults of the contract, and the path where spans are posted to.
func TestTracing(t *testing.T) {
	t.Parallel()
	parse := func(document string) *Config {
		c, err := Parse("t.yaml", []byte("version: 1\n"+document+"\n"), "")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := parse(""); c.Tracing != nil {
		t.Errorf("without tracing there is %+v", c.Tracing)
	}
	for document, want := range map[string]Tracing{
		"{}": {Endpoint: "http://127.0.0.1:4317", Protocol: TracingGRPC, Sample: 10},
		"{protocol: http}": {
			Endpoint: "http://127.0.0.1:4318/v1/traces", Protocol: TracingHTTP, Sample: 10,
		},
		"{endpoint: https://c:443/, sample: 0%}": {Endpoint: "https://c:443", Protocol: TracingGRPC},
		"{endpoint: http://c/, protocol: http, sample: 100%}": {Endpoint: "http://c/v1/traces", Protocol: TracingHTTP,
			Sample: 100},
		"{endpoint: http://c/otlp, protocol: http}": {Endpoint: "http://c/otlp", Protocol: TracingHTTP, Sample: 10},
		"{sample: 0.1%, headers: {Api-Key: k}}": {Endpoint: "http://127.0.0.1:4317", Protocol: TracingGRPC,
			Sample: 0.1, Headers: map[string]string{"Api-Key": "k"}},
	} {
		got := parse("tracing: " + document).Tracing
		if got == nil || got.Endpoint != want.Endpoint || got.Protocol != want.Protocol || got.Sample != want.Sample ||
			!maps.Equal(got.Headers, want.Headers) {
			t.Errorf("%s: got %+v, want %+v", document, got, want)
		}
	}
}

func TestFaultsOfTracing(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		"{endpoint: 127.0.0.1:4317}":        `2:21: tracing.endpoint: "127.0.0.1:4317" is not a URL such as http://`,
		"{endpoint: grpc://c:4317}":         `2:21: tracing.endpoint: "grpc://c:4317" is not a URL such as`,
		"{endpoint: http://c:0}":            `2:21: tracing.endpoint: "http://c:0" is not a URL such as`,
		"{endpoint: 'http://u:secret@c'}":   `2:21: tracing.endpoint: has a user in it: what the collector wants`,
		"{endpoint: 'ftp://u:secret@c'}":    `2:21: tracing.endpoint: "…@c" is not a URL such as`,
		"{endpoint: 'http://c/?a=1'}":       `2:21: tracing.endpoint: has a query or a fragment`,
		"{endpoint: 'http://c/#a'}":         `2:21: tracing.endpoint: has a query or a fragment`,
		"{endpoint: http://c/v1/traces}":    `2:21: tracing.endpoint: has a path, and OTLP over grpc has none: for`,
		"{protocol: thrift}":                `2:21: tracing.protocol: "thrift" is not grpc or http`,
		"{sample: 101%}":                    `2:19: tracing.sample: `,
		"{sample: 10}":                      `2:19: tracing.sample: `,
		"{headers: {'a b': x}}":             `2:28: tracing.headers.a b: "a b" is not `,
		"{headers: {Content-Type: x}}":      `2:35: tracing.headers.Content-Type: Content-Type is set by the export`,
		"{headers: {grpc-timeout: 1S}}":     `2:35: tracing.headers.grpc-timeout: grpc-timeout is set by the export`,
		"{headers: {A: x, a: y}}":           `2:30: tracing.headers.a: is A once more`,
		"{headers: {A: ''}}":                `2:24: tracing.headers.A: is empty`,
		"{headers: {A: \"s\\u0001ecret\"}}": `2:24: tracing.headers.A: has a character that no header field can`,
		"{headers: {A: \"s\u00e9cret\"}}":   `2:24: tracing.headers.A: has a character that no header field can`,
		"{collector: x}":                    `2:11: tracing.collector: `,
	} {
		faults := faultsOf(t, "version: 1\ntracing: "+document+"\n")
		if len(faults) != 1 || !strings.HasPrefix(faults[0], want) {
			t.Errorf("%s: %q, want %q", document, faults, want)
		}
		if strings.Contains(strings.Join(faults, ""), "cret") {
			t.Errorf("%s: a secret is shown: %q", document, faults)
		}
	}
}

func TestWarningsOfTracing(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		"{}":                        "",
		"{endpoint: http://c:4318}": "tracing.endpoint: has the port at which collectors take OTLP over HTTP",
		"{endpoint: http://c:4317, protocol: http}": "tracing.endpoint: has the port at which collectors take OTLP over grpc",
		"{headers: {A: x}}":                         "",
		"{endpoint: https://c, headers: {A: x}}":    "",
		"{endpoint: http://c, headers: {A: x}}":     "tracing.headers: are sent to c without TLS",
	} {
		c, err := Parse("t.yaml", []byte("version: 1\ntracing: "+document+"\n"), "")
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, w := range c.Warnings() {
			text = append(text, w.String())
		}
		if all := strings.Join(text, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
			t.Errorf("%s: %q, want %q", document, all, want)
		}
	}
}

// What is in headers is the collector's token: nobody is shown it, and a control plane knows it for a secret.
func TestHeadersOfTracingAreSecret(t *testing.T) {
	t.Parallel()
	const text = "version: 1\ntracing: {headers: {Authorization: Bearer s3cret-token}}\n"
	c, err := Parse("t.yaml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := c.Redacted()
	if err != nil || strings.Contains(string(shown), "s3cret") || !strings.Contains(string(shown), "Authorization") {
		t.Errorf("%s, %v", shown, err)
	}
	d, err := ParseDocument("t.yaml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	if s := d.Secrets(); len(s) != 1 || s[0].Path != "tracing.headers.Authorization" {
		t.Errorf("the secrets of the document are %+v", s)
	}
}
