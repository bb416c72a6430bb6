package config

import (
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
	checkFaults(t, transactionOf("", "        undo: {service: order, path: /u, nothingOn: [404, 4xx, 5xx]}\n"), []string{
		"9:59: transactions.t.steps[0].undo.nothingOn[1]: 4xx does not say that there was nothing to undo: " +
			"a service answers so that was not able, or not willing, to look",
		"9:64: transactions.t.steps[0].undo.nothingOn[2]: 5xx does not say that there was nothing to undo: " +
			"a service answers so that was not able, or not willing, to look",
	})
	checkFaults(t, sound+"transactions:\n  t:\n    steps:\n      - name: a\n"+
		"        do: {service: order, path: /v1/orders, nothingOn: [404]}\n", []string{
		"8:48: transactions.t.steps[0].do.nothingOn: " +
			"only an undo has nothingOn: a do is refused by the statuses in failOn",
	})
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
