package linearizability

import (
	"fmt"
	"strings"
	"testing"
)

// script makes a history of one key. Each line is a step at the next moment:
//
//	a calls            client a sends the key with body "a"; "a calls b" with body "b"
//	a executes e1 2    the service gets a's request, attempt 2 (1 when left out)
//	a gets e1          the response of e1; with "own" it is a's own, else a replay
//	a refused REASON   a refusal by the gateway
//	a fails e1         the service's 500
//	a declines e1      the service's 503, by which it says that it did nothing
//	trouble, calm      the store is in trouble until calm
//	failover           the store may forget what was acknowledged in the last 4 moments
//
// A call without a response stays open.
func script(onUnknown string, lines ...string) *History {
	const reach = 4
	h := NewHistory(onUnknown)
	open := map[string]*Operation{}
	var order []string
	for i, line := range lines {
		at := int64(i + 1)
		w := strings.Fields(line)
		switch w[0] {
		case "trouble":
			h.troubles = append(h.troubles, span{at, Open, 0})
			continue
		case "calm":
			h.troubles[len(h.troubles)-1].to = at
			continue
		case "failover":
			h.failovers = append(h.failovers, span{at, at, reach})
			continue
		}
		o := open[w[0]]
		switch w[1] {
		case "calls":
			body := "a"
			if len(w) > 2 {
				body = w[2]
			}
			open[w[0]] = &Operation{ID: w[0], Request: Request{"p", "k", body}, Call: at, Return: Open}
			order = append(order, w[0])
		case "executes":
			e := Execution{ID: w[2], Operation: w[0], InjectedKey: "i", Attempt: 1, Began: at, Status: 201,
				Body: responseOf(w[2])}
			if len(w) > 3 {
				fmt.Sscan(w[3], &e.Attempt)
			}
			h.executions = append(h.executions, e)
		case "gets":
			o.Return, o.Response = at, Response{Status: 201, Body: responseOf(w[2]), Replayed: len(w) == 3}
		case "fails", "declines":
			status := map[string]int{"fails": 500, "declines": notExecuted}[w[1]]
			o.Return, o.Response = at, Response{Status: status, Body: responseOf(w[2])}
			for i := range h.executions {
				if h.executions[i].ID == w[2] {
					h.executions[i].Status = status
				}
			}
		case "refused":
			status := map[string]int{"store-unavailable": 503, "idempotency-key-reused": 422,
				"upstream-failed": 502}[w[2]]
			if status == 0 {
				status = 409
			}
			o.Return, o.Response = at, Response{Status: status, Reason: w[2]}
		}
	}
	for _, name := range order {
		h.operations = append(h.operations, *open[name])
	}
	return h
}

func responseOf(execution string) string { return fmt.Sprintf(`{"execution":%q,"of":"a"}`, execution) }

func TestHistoriesThatAreAllowed(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*History{
		"first and replays": script("hold", "a calls", "b calls", "a executes e1", "a gets e1 own",
			"b gets e1", "c calls", "c gets e1"),
		"duplicate in flight": script("hold", "a calls", "b calls", "b refused request-in-progress",
			"a executes e1", "a gets e1 own"),
		"other body before the execution": script("hold", "a calls", "b calls b",
			"b refused idempotency-key-reused", "a executes e1", "a gets e1 own"),
		"crash after execution, held": script("hold", "a calls", "a executes e1", "b calls",
			"b refused outcome-unknown", "c calls", "c refused outcome-unknown"),
		"crash after the response's record": script("hold", "a calls", "a executes e1", "b calls", "b gets e1"),
		"crash before anything":             script("hold", "a calls", "b calls", "b executes e1", "b gets e1 own"),
		"crash with a claim only":           script("hold", "a calls", "b calls", "b refused outcome-unknown"),
		"late owner settles an unknown": script("hold", "a calls", "a executes e1", "b calls",
			"b refused outcome-unknown", "a gets e1 own", "c calls", "c gets e1"),
		"store away, then executed": script("hold", "a calls", "a refused store-unavailable", "b calls",
			"b executes e1", "b gets e1 own"),
		"response not recorded in trouble": script("hold", "a calls", "a executes e1", "trouble", "a gets e1 own",
			"calm", "b calls", "b refused outcome-unknown"),
		"failure is held": script("hold", "a calls", "a executes e1", "a fails e1", "b calls",
			"b refused outcome-unknown"),
		"retry after a crash": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "c calls", "c gets e2"),
		"late owner after a retry": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "a gets e2", "c calls", "c gets e2"),
		"late owner while another runs": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"a refused request-in-progress", "b gets e2 own", "c calls", "c gets e2"),
		"late owner, the other was declined": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b declines e2", "a gets e1 own", "c calls", "c gets e1"),
		"late owner, the other has failed": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b fails e2", "a gets e1 own", "c calls", "c gets e1"),
		"the other is late too": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"a gets e1 own", "b gets e1", "c calls", "c gets e1"),
		"late owner, declined, then retried": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b declines e2", "c calls", "c executes e3 2", "c gets e3 own", "a gets e3"),
		"late owner whose store was gone": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "trouble", "a gets e1 own", "calm", "c calls", "c gets e2"),
		"executed again after a failover": script("hold", "a calls", "a executes e1", "a gets e1 own", "failover",
			"b calls", "b executes e2", "b gets e2 own", "c calls", "c gets e2"),
		"response lost to a failover": script("hold", "a calls", "a executes e1", "a gets e1 own", "failover",
			"b calls", "b refused outcome-unknown"),
		"nothing lost to a failover": script("hold", "a calls", "a executes e1", "a gets e1 own", "failover",
			"b calls", "b gets e1"),
		"done, says a probe": script("probe", "a calls", "a executes e1", "b calls", "b gets e1",
			"c calls", "c gets e1"),
		"not done, says a probe": script("probe", "a calls", "b calls", "b executes e1 2",
			"b gets e1 own"),
		"a probe without a response": script("probe", "a calls", "a executes e1", "b calls",
			"b refused outcome-unknown", "c calls", "c gets e1"),
		"a late claim that never went on": script("retry", "a calls", "b calls", "b executes e1 2",
			"b gets e1 own", "a gets e1"),
		"a late claim that was declined": script("retry", "a calls", "a executes e0", "b calls", "b executes e1 2",
			"b gets e1 own", "a declines e0", "a gets e1"),
		"a late claim, while another runs": script("retry", "a calls", "b calls", "b executes e1 2",
			"a refused request-in-progress", "b gets e1 own"),
		"a claim that never went on, retried": script("retry", "a calls", "b calls", "b executes e1 2",
			"b gets e1 own"),
	} {
		if report, err := h.Check(); err != nil {
			t.Errorf("%s: refused: %v\n%v", name, err, report)
		}
	}
}

func TestHistoriesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*History{
		"two executions": script("hold", "a calls", "a executes e1", "b calls", "b executes e2"),
		"two responses": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b executes e2", "b gets e2 own"),
		"executed again over an unknown": script("hold", "a calls", "a executes e1", "b calls",
			"b refused outcome-unknown", "c calls", "c executes e2 2", "c gets e2 own"),
		"replay for another body": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls b",
			"b gets e1"),
		"reused by the same body": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b refused idempotency-key-reused"),
		"reused although free": script("hold", "b calls b", "b refused idempotency-key-reused", "a calls",
			"a executes e1"),
		"response lost: in progress again": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b refused request-in-progress"),
		"response lost: unknown": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b refused outcome-unknown"),
		"replayed response lost": script("hold", "a calls", "a executes e1", "b calls", "b gets e1",
			"c calls", "c refused outcome-unknown"),
		"lost outside of trouble": script("hold", "trouble", "calm", "a calls", "a executes e1",
			"a gets e1 own", "b calls", "b refused outcome-unknown"),
		"replay before the execution":    script("hold", "b calls", "b gets e1", "a calls", "a executes e1"),
		"replay of a response of no one": script("hold", "a calls", "a gets e9"),
		"another's response as its own":  script("hold", "a calls", "a executes e1", "b calls", "b gets e1 own"),
		"replay that executed":           script("hold", "a calls", "a executes e1", "a gets e1"),
		"refusal that executed":          script("hold", "a calls", "a executes e1", "a refused store-unavailable"),
		"sent on twice": script("retry", "a calls", "a executes e1", "a executes e2 2",
			"a gets e2 own"),
		"retry without a higher attempt": script("retry", "a calls", "a executes e1", "b calls", "b executes e2",
			"b gets e2 own"),
		"retry of a response": script("retry", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b executes e2 2", "b gets e2 own"),
		"first attempt is the second": script("hold", "a calls", "a executes e1 2", "a gets e1 own"),
		"second attempt over a later claim": script("retry", "b calls", "b executes e1 2", "a calls", "a gets e1",
			"b gets e1 own"),
		"second attempt over a late claim, held": script("hold", "a calls", "b calls", "b executes e1 2",
			"b gets e1 own", "a gets e1"),
		"late owner overwrites": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "a gets e1 own", "c calls", "c gets e1"),
		"replay of the one that was retried": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "c calls", "c gets e1"),
		"late owner against the record": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own", "a gets e1 own", "c calls", "c gets e2"),
		"late owner, then retried": script("retry", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b declines e2", "a gets e1 own", "c calls", "c executes e3 2", "c gets e3 own"),
		"a replay that executed, held": script("hold", "a calls", "a executes e1", "b calls", "b gets e1",
			"a gets e1"),
		"in progress that executed, held": script("hold", "a calls", "a executes e1",
			"a refused request-in-progress"),
		"unknown is held under retry": script("retry", "a calls", "a executes e1", "b calls",
			"b refused outcome-unknown"),
		"replayed failure": script("hold", "a calls", "a executes e1", "a fails e1", "b calls",
			"b gets e1"),
		"executed again before the failover": script("hold", "a calls", "a executes e1", "a gets e1 own", "b calls",
			"b executes e2", "b gets e2 own", "failover"),
		"forgotten what was long recorded": script("hold", "a calls", "a executes e1", "a gets e1 own", "x calls",
			"x gets e1", "y calls", "y gets e1", "failover", "b calls", "b executes e2", "b gets e2 own"),
		"two responses after a failover": script("hold", "a calls", "a executes e1", "a gets e1 own", "failover",
			"b calls", "b gets e1", "c calls", "c executes e2", "c gets e2 own"),
		"executed again over a probe": script("probe", "a calls", "a executes e1", "b calls", "b executes e2 2",
			"b gets e2 own"),
		"no such refusal": script("hold", "a calls", "a refused sold-out"),
	} {
		if report, err := h.Check(); err == nil {
			t.Errorf("%s: allowed: %v", name, report)
		}
	}
}
