package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

// A model of its own: what a new policy adds, and what stands around it.
type (
	sampleModel struct {
		Version  int                       `json:"version" jsonschema:"required,enum=1" config:"same"`
		Services map[string]*sampleService `json:"services" config:"merge"`
	}
	sampleService struct {
		Endpoints []string `json:"endpoints"`
		sampleSections
	}
	sampleSections struct {
		Surge *surge `json:"surge"`
	}
	surge struct {
		InFlight surgeLimit `json:"inFlight"`
		Queue    int        `json:"queue" jsonschema:"minimum=0"`
		Wait     Duration   `json:"wait" config:"min=10ms"`
		Token    string     `json:"token" config:"secret"`
	}
	// surgeLimit is written adaptive, or as a number.
	surgeLimit struct{ Max int }
)

func (surge) describe() descriptions {
	return descriptions{
		"": "How many requests are in flight.", "InFlight": "adaptive, or the number.", "Queue": "How many wait.",
		"Wait": "How long they wait.", "Token": "A secret.",
	}
}

func (s *surge) setDefaults() { s.Wait = duration(50_000_000) }

func (s *surge) derive(*files) {
	if s.Queue == 0 {
		s.Queue = 2 * s.InFlight.Max
	}
}

func (s *surge) check(at site) {
	if s.Queue > 100 {
		at.fault(at.at("queue"), "%d is more than 100", s.Queue)
	}
}

func (l *surgeLimit) form() unionForm {
	return unionForm{
		words: []string{"adaptive"}, want: "adaptive or a number such as 64",
		value: &jsonschema.Schema{Type: "integer", Minimum: json.Number("1")},
	}
}

func (l *surgeLimit) setWord(string) { l.Max = 0 }
func (l *surgeLimit) value() any     { return &l.Max }

func (l *surgeLimit) word() string {
	if l.Max == 0 {
		return "adaptive"
	}
	return ""
}

// loadSample takes documents through all stages as a sampleModel.
func loadSample(t *testing.T, documents ...string) (*sampleModel, []string, error) {
	t.Helper()
	l, err := newLoader(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l.model = reflect.TypeFor[sampleModel]()
	schema, err := compileSchema(l.model)
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range documents {
		l.document("t", []byte(document))
	}
	c := new(sampleModel)
	err = l.into(c, schema)
	var secrets []string
	for _, path := range secretPaths(l.root, nil, nil) {
		secrets = append(secrets, strings.Join(path, "."))
	}
	return c, secrets, err
}

// TestSampleSection: a section needs its type, with a method for each thing that it needs, and one line in a list.
func TestSampleSection(t *testing.T) {
	t.Setenv("SLUICE_TEST_NUMBER", "12")
	c, secrets, err := loadSample(t, "version: 1\nservices:\n  a: {surge: {inFlight: 7, token: hush}}\n",
		"version: 1\nservices:\n  b: {surge: {inFlight: adaptive, queue: '${env:SLUICE_TEST_NUMBER}', wait: "+
			"10ms}}\n  c: {surge: {inFlight: '${env:SLUICE_TEST_NUMBER}'}}\n")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "a section", *c.Services["a"].Surge, surge{InFlight: surgeLimit{7}, Queue: 14,
		Wait: duration(50_000_000), Token: "hush"})
	expect(t, "a word", *c.Services["b"].Surge, surge{Queue: 12, Wait: duration(10_000_000)})
	expect(t, "a number from the environment", c.Services["c"].Surge.InFlight, surgeLimit{12})
	expect(t, "secrets", secrets, []string{"services.b.surge.queue", "services.c.surge.inFlight"})

	b, err := redact(c, [][]string{{"services", "b", "surge", "queue"}})
	if err != nil {
		t.Fatal(err)
	}
	var shown map[string]any
	if err := json.Unmarshal(b, &shown); err != nil {
		t.Fatal(err)
	}
	expect(t, "what is shown", shown["services"], any(map[string]any{
		"a": map[string]any{"surge": map[string]any{"inFlight": 7.0, "queue": 14.0, "wait": "50ms", "token": "***"}},
		"b": map[string]any{"surge": map[string]any{"inFlight": "adaptive", "queue": "***", "wait": "10ms"}},
		"c": map[string]any{"surge": map[string]any{"inFlight": 12.0, "queue": 24.0, "wait": "50ms"}},
	}))

	schema, err := json.Marshal(reflectSchema(reflect.TypeFor[sampleModel]()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"surge":{"$ref":"#/$defs/surge","description":"How many requests are in flight."}`,
		`"description":"adaptive, or the number."`,
		`"default":"50ms"`,
	} {
		if !strings.Contains(string(schema), want) {
			t.Errorf("the schema has no %s:\n%s", want, schema)
		}
	}
}

func TestSampleSectionFaults(t *testing.T) {
	t.Setenv("SLUICE_TEST_WORD", "many")
	for document, want := range map[string]string{
		"{queue: 101}":   "t:3:22: services.a.surge.queue: 101 is more than 100",
		"{inFlight: 51}": "t:3:7: services.a.surge.queue: 102 is more than 100",
		"{inFlight: adap}": `t:3:25: services.a.surge.inFlight: "adap" is not adaptive or a ` +
			`number such as 64`,
		"{inFlight: 0}": "t:3:25: services.a.surge.inFlight: 0 is less than 1",
		"{inFlight: []}": "t:3:15: services.a.surge.inFlight: a list is not adaptive or a " +
			"number such as 64",
		"{wait: 1ms}":                        `t:3:21: services.a.surge.wait: "1ms" is less than 10ms`,
		"{queues: 1}":                        `t:3:15: services.a.surge.queues: unknown key (did you mean "queue"?)`,
		"{queue: '${env:SLUICE_TEST_WORD}'}": "t:3:22: services.a.surge.queue: *** is not a whole number",
	} {
		_, _, err := loadSample(t, "version: 1\nservices:\n  a: {surge: "+document+"}\n")
		var faults *FaultsError
		if !errors.As(err, &faults) || err.Error() != want {
			t.Errorf("%s:\n%v, want\n%s", document, err, want)
		}
	}
}
