package sagaclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// StepsMax is how many steps a saga may have: DTM numbers them with two digits.
const StepsMax = 99

// Saga is one global transaction: steps that all happen, or are all undone. The coordinator calls
// them with POST, with the query parameters gid, trans_type, branch_id ("01" for the first step)
// and op ("action" or "compensate"). 200 is done, 409 is a refusal of an action, 425 still running;
// any other status is tried again.
type Saga struct {
	GID   string // 8 to 60 of [0-9a-z]
	Steps []Step
	// Timeout is the earliest moment of a roll-back by time, in whole seconds, rounded up. 0:
	// never.
	Timeout time.Duration
	// RetryEvery is the first delay before a step is called again, in whole seconds, rounded up;
	// DTM doubles it from the first failure on. 0: DTM's ten seconds. While it is below the
	// coordinator's limit for a call, DTM may call a step a second time while the first call still
	// runs.
	RetryEvery time.Duration
	// RetryLimit is how often a step is called again, at once and without a pause, before the saga is
	// rolled back. 0: until [Saga.Timeout], with RetryEvery.
	RetryLimit int
	// CallTimeout is how long the coordinator waits for one call, in whole seconds, rounded up. 0:
	// the coordinator's own limit, three seconds unless configured. DTM counts a call that takes
	// longer as failed, and may call again while the first one still runs.
	CallTimeout time.Duration
	// Headers are fields of every call of the saga; DTM has none of single steps. On a coordinator
	// with an SQL store they have to fit in about 1000 bytes.
	Headers map[string]string
	// Wait: the coordinator responds to the submit only after its first pass over the steps.
	Wait bool
}

// Step is one branch.
type Step struct {
	Name   string // for errors only; DTM knows numbers
	Action string // URL
	// Compensate is a URL; it must do nothing when the action was never done. Empty: there is
	// nothing to undo.
	Compensate string
	// Payload is the body of both calls, valid UTF-8. Empty is sent as {}, because DTM turns a call
	// without a body into GET.
	Payload []byte
	// JSON is encoded as the payload, in place of Payload; nil: there is none.
	JSON any
	// After are the steps, by index, that come before this one: all smaller than its own. nil is
	// the step before it, empty is none.
	After []int
}

var fieldName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$") // RFC 9110 §5.6.2

// encode returns the body of the submit request, or what is wrong with the saga.
func (s *Saga) encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	w := wire{
		GID: s.GID, Type: "saga", WaitResult: s.Wait,
		TimeoutToFail: wholeSeconds(s.Timeout), RetryInterval: wholeSeconds(s.RetryEvery),
		RequestTimeout: wholeSeconds(s.CallTimeout), RetryLimit: int64(s.RetryLimit), BranchHeaders: s.Headers,
	}
	orders := map[int][]int{} // nil would be sent as null
	for i := range s.Steps {
		st := &s.Steps[i]
		w.Steps = append(w.Steps, wireStep{"action": st.Action, "compensate": st.Compensate})
		payload, err := st.payload()
		if err != nil {
			return nil, fmt.Errorf("step %d %q: %w", i, st.Name, err)
		}
		w.Payloads = append(w.Payloads, payload)
		if before := st.before(i); len(before) > 0 {
			orders[i] = before
		}
		w.Concurrent = w.Concurrent || !st.followsPrevious(i)
	}
	if w.Concurrent {
		custom, err := json.Marshal(map[string]any{"concurrent": true, "orders": orders})
		if err != nil {
			return nil, err
		}
		w.CustomData = string(custom)
	}
	return json.Marshal(w)
}

func (s *Saga) check() error {
	if !gidPattern.MatchString(s.GID) {
		return fmt.Errorf("gid %q is not 8 to 60 of [0-9a-z]", s.GID)
	}
	if len(s.Steps) == 0 || len(s.Steps) > StepsMax {
		return fmt.Errorf("%d steps, want 1 to %d", len(s.Steps), StepsMax)
	}
	if s.Timeout < 0 || s.RetryEvery < 0 || s.CallTimeout < 0 || s.RetryLimit < 0 {
		return fmt.Errorf("negative: timeout %v, retry delay %v, time limit of a call %v or retry limit %d",
			s.Timeout, s.RetryEvery, s.CallTimeout, s.RetryLimit)
	}
	if err := checkHeaders(s.Headers); err != nil {
		return err
	}
	for i := range s.Steps {
		if err := s.Steps[i].check(i); err != nil {
			return fmt.Errorf("step %d %q: %w", i, s.Steps[i].Name, err)
		}
	}
	return nil
}

// checkHeaders refuses what no HTTP client would send, so that the caller hears of it and not the
// coordinator's log, call after call.
func checkHeaders(headers map[string]string) error {
	for name, value := range headers {
		if !fieldName.MatchString(name) {
			return fmt.Errorf("header field %q has no valid name", name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("header field %s has a control character in its value", name)
		}
	}
	return nil
}

func (st *Step) check(i int) error {
	targets := []string{st.Action}
	if st.Compensate != "" {
		targets = append(targets, st.Compensate)
	}
	for _, target := range targets {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is not an http URL", target)
		}
		if strings.Contains(target, "#") {
			return fmt.Errorf("%q has a fragment", target)
		}
	}
	if !utf8.Valid(st.Payload) {
		return errors.New("payload is not UTF-8")
	}
	for _, a := range st.After {
		if a < 0 || a >= i {
			return fmt.Errorf("comes after step %d, want one from 0 to %d", a, i-1)
		}
	}
	return nil
}

func (st *Step) payload() (string, error) {
	if st.JSON == nil {
		return payloadOf(st.Payload), nil
	}
	if st.Payload != nil {
		return "", errors.New("has both Payload and JSON")
	}
	b, err := json.Marshal(st.JSON)
	return string(b), err
}

// before are the steps before step i, by index.
func (st *Step) before(i int) []int {
	if st.After == nil && i > 0 {
		return []int{i - 1}
	}
	return st.After
}

func (st *Step) followsPrevious(i int) bool {
	b := st.before(i)
	return i == 0 || len(b) == 1 && b[0] == i-1
}

func wholeSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
