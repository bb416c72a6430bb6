package config

import (
	"fmt"
	"strings"
	"testing"
)

const callOf = "{service: order, path: /x}"

// inMode is a document with one transaction; the first step stands in line 7 from column 7 on.
func inMode(mode, settings string, steps ...string) string {
	doc := sound + "transactions:\n  t:\n    " + strings.TrimSpace("mode: "+mode+"\n"+settings) + "\n    steps:\n"
	for _, step := range steps {
		doc += "      - {" + step + "}\n"
	}
	return doc
}

func tried(name, more string) string {
	return fmt.Sprintf("name: %s, try: %s, confirm: %[2]s, cancel: %[2]s%s", name, callOf, more)
}

// checkMessages compares faults without their places; that of the first one has to be in the transaction.
func checkMessages(t *testing.T, doc string, want []string) {
	t.Helper()
	var got []string
	for _, fault := range faultsOf(t, doc) {
		place, message, _ := strings.Cut(fault, ": ")
		if line, _, _ := strings.Cut(place, ":"); line < "6" && len(line) == 1 {
			t.Errorf("%s is not said of the transaction", fault)
		}
		got = append(got, message)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("document:\n%s\ngot:\n%s\nwant:\n%s", doc, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEachModeHasItsFields: what another mode has is a fault where it stands.
func TestEachModeHasItsFields(t *testing.T) {
	for _, c := range []struct {
		doc  string
		want []string
	}{
		{inMode("tcc", "", tried("a", ", failOn: [409]")), nil},
		{inMode("xa", "", "name: a, do: "+callOf), nil},
		{inMode("message", "", "name: a, do: "+callOf), nil},
		{inMode("message", "", "name: a, do: "+callOf+", failOn: [409]"), []string{
			"transactions.t.steps[0].failOn: a step of mode message has no failOn; it has do"}},
		{inMode("xa", "", "name: a, do: "+callOf+", undo: "+callOf), []string{
			"transactions.t.steps[0].undo: a step of mode xa has no undo; it has do"}},
		{inMode("saga", "", tried("a", "")), []string{
			"transactions.t.steps[0].try: a step of mode saga has no try; it has do, undo and failOn " +
				`(did you mean "do"?)`,
			"transactions.t.steps[0].confirm: a step of mode saga has no confirm; it has do, undo and failOn",
			"transactions.t.steps[0].cancel: a step of mode saga has no cancel; it has do, undo and failOn " +
				`(did you mean "undo"?)`}},
		{inMode("saga", "", "name: a"), []string{
			"transactions.t.steps[0]: do is missing: a step of mode saga has do, undo and failOn"}},
		{inMode("tcc", "", "name: a, try: "+callOf+", confirm: "+callOf), []string{
			"transactions.t.steps[0]: cancel is missing: a step of mode tcc has try, confirm, cancel and failOn"}},
		{inMode("saga", "    primary: {do: "+callOf+", query: "+callOf+"}", "name: a, do: "+callOf), []string{
			"transactions.t.primary: only a transaction of mode message has a primary"}},
		{inMode("message", "    timeout: 9s", "name: a, do: "+callOf), []string{
			"transactions.t.timeout: a message without a primary is delivered until it is done, and never " +
				"rolled back"}},
	} {
		checkMessages(t, c.doc, c.want)
	}
}

func TestPrimary(t *testing.T) {
	primary := func(s string) string {
		return inMode("message", "    timeout: 9s\n    primary: {"+s+"}", "name: a, do: "+callOf)
	}
	checkMessages(t, primary("do: "+callOf+", query: {service: order, path: \"/q/{gid}\", headers: {X-A: b}}"), nil)
	for written, want := range map[string]string{
		"do: " + callOf: "transactions.t.primary.query: is missing",
		"do: " + callOf + ", query: {service: nope, path: /q}": "transactions.t.primary.query.service: " +
			`there is no service "nope"`,
		"do: " + callOf + ", query: {service: order, path: q}": "transactions.t.primary.query.path: " +
			`"q" has to begin with /`,
		"do: {service: order, path: /x, nothingOn: [404]}, query: " + callOf: "transactions.t.primary.do.nothingOn: " +
			"only an undo and a cancel have nothingOn: a do is refused by the statuses in failOn",
	} {
		checkMessages(t, primary(written), []string{want})
	}
	checkMessages(t, inMode("message", "    primary: {do: "+callOf+", query: "+callOf+"}", "name: primary, do: "+callOf),
		[]string{`transactions.t.steps[0].name: "primary" is the name of the primary`})
}

// TestOrderOfAMessage: DTM delivers one after another, or all at once.
func TestOrderOfAMessage(t *testing.T) {
	step := func(name, more string) string { return "name: " + name + ", do: " + callOf + more }
	checkMessages(t, inMode("message", "", step("a", ""), step("b", "")), nil)
	checkMessages(t, inMode("message", "", step("a", ", after: []"), step("b", "")), nil)
	checkMessages(t, inMode("message", "", step("a", ", after: []"), step("b", ", after: []")), nil)
	const want = ".after: the steps of a message are delivered one after another, without after, or all at once, " +
		"with after: [] in each of them"
	checkMessages(t, inMode("message", "", step("a", ""), step("b", ", after: [a]")),
		[]string{"transactions.t.steps[1]" + want})
	checkMessages(t, inMode("message", "", step("a", ""), step("b", ", after: []")),
		[]string{"transactions.t.steps[1]" + want})
}

// TestReferencesToResponses: to those of the steps before, and a confirm to that of its own try.
func TestReferencesToResponses(t *testing.T) {
	with := func(ref string) string { return `{service: order, path: /x, body: {v: "{steps.` + ref + `}"}}` }
	second := func(try, confirm, cancel, more string) []string {
		b := fmt.Sprintf("name: b%s, try: %s, confirm: %s, cancel: %s", more, try, confirm, cancel)
		return []string{tried("a", ""), b}
	}
	checkMessages(t, inMode("tcc", "", second(with("a.id"), with("b.id"), with("a.x.y"), "")...), nil)
	for _, c := range []struct {
		steps []string
		want  string
	}{
		{second(with("aa.id"), callOf, callOf, ""), `try.body.v: steps.aa.id: there is no step "aa"`},
		{second(with("b.id"), callOf, callOf, ""),
			"try.body.v: steps.b.id: only its confirm can refer to the response of a step's own try"},
		{second(callOf, callOf, with("b.id"), ""),
			"cancel.body.v: steps.b.id: only its confirm can refer to the response of a step's own try"},
		{second(with("a.id"), callOf, callOf, ", after: []"),
			`try.body.v: steps.a.id: step "a" does not come before this one, so its response is not there`},
	} {
		got := faultsOf(t, inMode("tcc", "", c.steps...))
		if len(got) != 1 || !strings.HasSuffix(got[0], ": transactions.t.steps[1]."+c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	got := faultsOf(t, inMode("saga", "", "name: a, do: "+callOf, "name: b, do: "+with("a.id")))
	if len(got) != 1 || !strings.HasSuffix(got[0],
		"do.body.v: steps.a.id: only in mode tcc a call can refer to the responses of other steps") {
		t.Errorf("in a saga: %q", got)
	}
}

// TestNamesThatTheCoordinatorCouldNotStore: DTM keeps them in 1024 characters.
func TestNamesThatTheCoordinatorCouldNotStore(t *testing.T) {
	var steps []string
	for i := range 40 {
		steps = append(steps, fmt.Sprintf("name: %s%d, do: %s", strings.Repeat("n", 23), i, callOf))
	}
	checkMessages(t, inMode("xa", "", steps[:30]...), nil)
	checkMessages(t, inMode("xa", "", steps...), []string{"transactions.t.steps: the names of the steps take 1121 " +
		"bytes at the coordinator, which has room for 1000: write shorter names"})
	checkMessages(t, inMode("saga", "", steps...), nil)
}
