package fromdtmcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// ErrUnsupported says that a transaction has something that cannot be sent over HTTP, or that
// package sagaclient does not have. The text names it.
var ErrUnsupported = errors.New("fromdtmcli: unsupported")

// Saga returns what s describes, for [sagaclient.Client.Submit]. s does not change and may be used
// for another saga afterwards. The error is [ErrUnsupported]; what else is wrong with the saga is
// found by the submit.
func Saga(s *dtmcli.Saga) (*sagaclient.Saga, error) {
	if err := supported(&s.TransBase); err != nil {
		return nil, err
	}
	orders, err := ordersOf(s)
	if err != nil {
		return nil, err
	}
	out := &sagaclient.Saga{
		GID: s.Gid, Wait: s.WaitResult, RetryLimit: int(s.RetryLimit), Headers: s.BranchHeaders,
		Timeout: seconds(s.TimeoutToFail), RetryEvery: seconds(s.RetryInterval), CallTimeout: seconds(s.RequestTimeout),
	}
	for i, step := range s.Steps {
		st := sagaclient.Step{
			Action: step["action"], Compensate: step["compensate"], Payload: []byte(s.Payloads[i]),
		}
		if s.Concurrent {
			st.After = append([]int{}, orders[i]...) // not nil, which would be the step before
		}
		out.Steps = append(out.Steps, st)
	}
	return out, nil
}

// Message returns what m describes, for [sagaclient.Client.SubmitMessage], or for Prepare and
// SubmitPrepared where it has a query. The error is [ErrUnsupported]: of what [Saga] refuses, and of
// header fields, a topic and limits of calls, which sagaclient's messages do not have.
func Message(m *dtmcli.Msg) (*sagaclient.Global, error) {
	if err := supported(&m.TransBase); err != nil {
		return nil, err
	}
	if len(m.BranchHeaders) > 0 || m.RequestTimeout != 0 || m.RetryLimit != 0 {
		return nil, fmt.Errorf("%w: gid %s: a message with header fields, a limit of a call or one of retries",
			ErrUnsupported, m.Gid)
	}
	c := *m
	c.BuildCustomOptions() // dtmcli shows the delay only in what it sends
	out := &sagaclient.Global{
		GID: m.Gid, Mode: sagaclient.Message, Wait: m.WaitResult, AtOnce: m.Concurrent, Custom: c.CustomData,
		Timeout: seconds(m.TimeoutToFail), RetryEvery: seconds(m.RetryInterval), QueryPrepared: m.QueryPrepared,
	}
	for i, step := range m.Steps {
		if strings.HasPrefix(step["action"], dtmimp.MsgTopicPrefix) {
			return nil, fmt.Errorf("%w: gid %s: step %d goes to a topic", ErrUnsupported, m.Gid, i)
		}
		out.Deliveries = append(out.Deliveries, sagaclient.Delivery{
			URL: step["action"], Payload: []byte(m.Payloads[i]),
		})
	}
	return out, nil
}

func supported(t *dtmimp.TransBase) error {
	switch {
	case t.Protocol != "" && t.Protocol != dtmimp.ProtocolHTTP:
		return fmt.Errorf("%w: gid %s is for protocol %s", ErrUnsupported, t.Gid, t.Protocol)
	case len(t.BinPayloads) > 0:
		return fmt.Errorf("%w: gid %s has payloads for gRPC", ErrUnsupported, t.Gid)
	case len(t.Payloads) != len(t.Steps):
		return fmt.Errorf("%w: gid %s has %d steps and %d payloads",
			ErrUnsupported, t.Gid, len(t.Steps), len(t.Payloads))
	}
	for i, payload := range t.Payloads {
		if payload == "" {
			return fmt.Errorf("%w: gid %s: step %d has no payload, so that the coordinator would call it with GET",
				ErrUnsupported, t.Gid, i)
		}
	}
	return nil
}

// ordersOf returns which steps come before which. dtmcli keeps them to itself, and shows them only
// in what it sends.
func ordersOf(s *dtmcli.Saga) (map[int][]int, error) {
	if !s.Concurrent {
		return nil, nil
	}
	c := *s
	c.BuildCustomOptions()
	var custom struct {
		Orders map[int][]int `json:"orders"`
	}
	if err := json.Unmarshal([]byte(c.CustomData), &custom); err != nil {
		return nil, fmt.Errorf("%w: gid %s: orders of the steps: %w", ErrUnsupported, s.Gid, err)
	}
	return custom.Orders, nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
