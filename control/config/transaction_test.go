package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func transactionOf(settings, step string) string {
	return sound + "transactions:\n  t:\n" + settings + "    steps:\n      - name: a\n" +
		"        do: {service: order, path: /v1/orders}\n" + step
}

func TestTransactionFaults(t *testing.T) {
	checkFaults(t, transactionOf("    retry: {every: 10s, max: 5s}\n", ""), []string{
		"6:30: transactions.t.retry.max: max 5s is less than every 10s",
	})
	undo := "        undo: {service: order, path: /u, nothingOn: [404, 4xx, 5xx]}\n"
	checkFaults(t, transactionOf("", undo), []string{
		"9:59: transactions.t.steps[0].undo.nothingOn[1]: 4xx does not say that there was nothing to undo: " +
			"a service answers so that was not able, or not willing, to look",
		"9:64: transactions.t.steps[0].undo.nothingOn[2]: 5xx does not say that there was nothing to undo: " +
			"a service answers so that was not able, or not willing, to look",
	})
	checkFaults(t, sound+"transactions:\n  t:\n    steps:\n      - name: a\n"+
		"        do: {service: order, path: /v1/orders, nothingOn: [404]}\n", []string{
		"8:48: transactions.t.steps[0].do.nothingOn: " +
			"only an undo and a cancel have nothingOn: a do is refused by the statuses in failOn",
	})
}

func TestFieldsOfACall(t *testing.T) {
	step := func(headers string) string {
		return sound + "transactions:\n  t:\n    steps:\n      - name: a\n" +
			"        do: {service: order, path: /v1/orders, headers: " + headers + "}\n"
	}
	checkFaults(t, step(`{Authorization: "{header.Authorization}", X-Tenant: "t-{principal}"}`), nil)
	for headers, want := range map[string]string{
		"{Sluice-Op: x}":       "Sluice-Op: the gateway sets this field itself",
		"{Idempotency-Key: x}": "Idempotency-Key: the gateway sets this field itself",
		"{Content-Type: x}":    "Content-Type: the gateway sets this field itself",
		`{"a b": x}`: `a b: "a b" is not the name of a header field, ` +
			"a token of letters, digits and !#$%&'*+-.^_|~",
		`{X: "{header.Via}"}`: "X: Via has never a value here: " +
			"the gateway takes it out of requests, since the gateway writes it itself",
		`{X: "{nope}"}`: `X: "{nope}": "nope" is not a reference such as ` +
			"principal, path.sku, header.X-Tenant or body.cart.total",
	} {
		got := faultsOf(t, step(headers))
		if len(got) != 1 || !strings.HasSuffix(got[0], ": transactions.t.steps[0].do.headers."+want) {
			t.Errorf("%s: %q, want %q", headers, got, want)
		}
	}
}

func TestRetryDefaults(t *testing.T) {
	for written, want := range map[string]Retry{
		"":                                     {duration(3 * time.Second), duration(30 * time.Second)},
		"    retry: {every: 60s}\n":            {duration(time.Minute), duration(time.Minute)},
		"    retry: {every: 1s, max: 5s}\n":    {duration(time.Second), duration(5 * time.Second)},
		"    retry: {every: 40s, max: 2m}\n":   {duration(40 * time.Second), duration(2 * time.Minute)},
		"    retry: {every: 30s, max: 30s}\n":  {duration(30 * time.Second), duration(30 * time.Second)},
		"    retry: {max: 45s}\n":              {duration(3 * time.Second), duration(45 * time.Second)},
		"    retry: {every: 100s, max: 10m}\n": {duration(100 * time.Second), duration(10 * time.Minute)},
	} {
		cfg, err := Parse("t.yaml", []byte(transactionOf(written, "")), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Transactions["t"].Retry; got != want {
			t.Errorf("%q: %v, want %v", written, got, want)
		}
	}
}

func coordinatorOf(settings string) string {
	return sound + "coordinator:\n  dtm:\n    endpoints: [\"http://127.0.0.1:1\"]\n" + settings
}

func TestCoordinatorForms(t *testing.T) {
	for written, want := range map[string]Branches{
		"":                             {Listen: "127.0.0.1:8081"},
		"    branches: 127.0.0.1:9\n":  {Listen: "127.0.0.1:9"},
		"    branches: {listen: :9}\n": {Listen: ":9"},
		"    branches: {listen: \":9\", advertise: \"http://gateway:8081\"}\n": {":9", "http://gateway:8081"},
		"    branches: {advertise: \"http://gateway:8081\"}\n":                 {"127.0.0.1:8081", "http://gateway:8081"},
	} {
		cfg, err := Parse("t.yaml", []byte(coordinatorOf(written)), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Coordinator.DTM.Branches; got != want {
			t.Errorf("%q: %v, want %v", written, got, want)
		}
		shown, err := cfg.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("t.yaml", shown, t.TempDir()); err != nil || again.Coordinator.DTM.Branches != want {
			t.Errorf("what is shown of %q is not the same again: %v", written, err)
		}
	}
	checkFaults(t, coordinatorOf("    branches: {listen: nope, advertise: \"https://x/y\"}\n"), []string{
		`7:24: coordinator.dtm.branches.listen: "nope" is not an address to listen on such as 127.0.0.1:8080: ` +
			`missing port in address`,
		`7:41: coordinator.dtm.branches.advertise: "https://x/y" is not http://host:port`,
	})
	checkFaults(t, coordinatorOf("    branches: [1]\n    secret: short\n    name: A B\n"), []string{
		`7:5: coordinator.dtm.branches: a list is not host:port or ` +
			`{listen: ":8081", advertise: "http://gateway.internal:8081"}`,
		`8:13: coordinator.dtm.secret: has 5 bytes, want at least 16`,
		`9:11: coordinator.dtm.name: "A B" is not a name of a-z, 0-9, dots, dashes and underlines`,
	})
}

// TestStepOrderThatTheCoordinatorCouldNotStore: DTM keeps it in 1024 characters.
func TestStepOrderThatTheCoordinatorCouldNotStore(t *testing.T) {
	steps := func(n int) string { // each after the two before it
		b := sound + "transactions:\n  t:\n    steps:\n"
		for i := range n {
			var after []string
			for j := max(i-2, 0); j < i; j++ {
				after = append(after, "s"+strconv.Itoa(j))
			}
			b += fmt.Sprintf("      - {name: s%d, after: [%s], do: {service: order, path: /o}}\n", i,
				strings.Join(after, ", "))
		}
		return b
	}
	checkFaults(t, steps(70), nil)
	checkFaults(t, steps(80), []string{
		"6:5: transactions.t.steps: the order of the steps takes 1025 bytes at the coordinator, " +
			"which has room for 1000: write fewer names in after",
	})
}
