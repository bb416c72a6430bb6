package transaction

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// messageMode: the coordinator delivers the do of each step until it is done; nothing is rolled back. A message
// with a primary is delivered only when that is done: the gateway calls it while the message is prepared, and where its
// outcome is not known the coordinator finds out, by the query.
//
// The call of the primary and the query have one record, and so exclude each other: the query is not asked while a call
// is under way, and what it has answered is the end of the primary.
type messageMode struct{}

const (
	opPrimary = "primary"
	opQuery   = "query"

	// primaryName is the name of the primary among the steps (config.PrimaryName), and primaryID its branch: with that
	// and the operation msg the barrier of dtmcli works in the service as it is (dtmcli/barrier.go, QueryPrepared).
	primaryName = "primary"
	primaryID   = "00"
)

var messageOperations = []operation{
	{
		name: opPrimary, dtm: "msg", state: sagaclient.Prepared, call: filters.DoCall, begins: true, refusable: true,
		queried: true, of: func(*envelope) *envelopeCall { return nil }, // only the manager calls it
	},
	{
		name: opDo, dtm: "action", state: sagaclient.Submitted, call: filters.DoCall, stops: true,
		of: func(e *envelope) *envelopeCall { return e.Do },
	},
	{
		name: opQuery, dtm: "msg", state: sagaclient.Prepared, call: filters.ProbeCall, queried: true,
		notDone: true, of: func(e *envelope) *envelopeCall { return e.Query },
	},
}

func (messageMode) asksFirst(*Bridge) bool { return true }

func (messageMode) operations() []operation { return messageOperations }

// places: what is delivered later may wait for its service, so only the primary's has to have room.
func (messageMode) places(s *Settings) (steps, services []string) {
	if s.Primary == nil {
		return nil, nil
	}
	return []string{primaryName}, []string{s.Primary.Do.Service}
}

func (messageMode) render(ctx context.Context, e *Executor, x *filters.Exchange) (rendered, error) {
	key, err := e.bridge.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	s, gid := &e.settings, x.Logical.GID
	g := sagaclient.Global{
		GID: gid, Mode: sagaclient.Message, RetryEvery: s.RetryEvery, Wait: true, Headers: e.bridge.keepFor(s.KeepFor),
		AtOnce: len(s.Steps) > 1 && s.Steps[1].After != nil,
	}
	length := 0
	for i := range s.Steps {
		env, payload, err := e.renderStep(x, &s.Steps[i], nil)
		if err == nil && i == 0 && s.Primary != nil {
			payload, err = withQuery(x, env, s.Primary)
		}
		if err != nil {
			return nil, err
		}
		if length += len(payload); length > stepsBytesMax {
			return nil, errPayload
		}
		g.Deliveries = append(g.Deliveries, sagaclient.Delivery{
			URL: branch{gid, s.Steps[i].Name, opDo, branchID(i)}.url(e.bridge.baseURL, key, payload), Payload: payload,
		})
	}
	if s.Primary == nil {
		return &renderedMessage{g}, nil
	}
	return e.renderPrimary(x, g, key)
}

// withQuery adds to the first envelope what the query needs, for it is called without a payload.
func withQuery(x *filters.Exchange, env *envelope, p *Primary) (payload []byte, err error) {
	if env.Query, err = renderCall(x, &p.Query); err != nil {
		return nil, err
	}
	env.FailOn = rangesOf(p.FailOn)
	return marshal(env), nil
}

type renderedMessage struct{ sagaclient.Global }

// start submits the message, once.
func (m *renderedMessage) start(ctx context.Context, b *Bridge, _ bool) *started {
	begun := newStarted()
	b.background.Go(func() {
		defer close(begun.settled)
		ctx, cancel := context.WithTimeout(ctx, submitTimeout)
		defer cancel()
		begun.accepted <- b.client.SubmitMessage(ctx, &m.Global)
	})
	return begun
}

// renderedPrimary is the first phase of a message.
type renderedPrimary struct{ do branchCall }

func (e *Executor) renderPrimary(x *filters.Exchange, g sagaclient.Global, key []byte) (rendered, error) {
	if e.bridge.managers.full() {
		return nil, errManagers
	}
	p := e.settings.Primary
	env := e.newEnvelope(x)
	env.FailOn = rangesOf(p.FailOn)
	var err error
	if env.Do, err = renderCall(x, &p.Do); err != nil {
		return nil, err
	}
	if env, err = owned(env); err != nil {
		return nil, err
	}
	of := &renderedPrimary{branchCall{
		branch: branch{g.GID, primaryName, opPrimary, primaryID}, operation: messageOperations[0],
		env: env, call: env.Do,
	}}
	m := e.newManager(of, sagaclient.Message, g.GID, env)
	g.Timeout, g.Custom = e.settings.Timeout, custom{Primary: true}.encode()
	g.QueryPrepared = branch{g.GID, primaryName, opQuery, primaryID}.url(e.bridge.baseURL, key, nil)
	m.global = g
	return m, nil
}

func (p *renderedPrimary) size() int                { return 1 }
func (p *renderedPrimary) step(int) (string, []int) { return primaryName, nil }

func (p *renderedPrimary) call(int) (branchCall, error) { return p.do, nil }

func (p *renderedPrimary) claimed(context.Context, *Bridge, int) error { return nil }

func (p *renderedPrimary) done(context.Context, *Bridge, int, []byte) error { return nil }

// unknown: it is not called again, since its service may take that for a second one; the query tells.
func (p *renderedPrimary) unknown() progress { return inDoubt }

// errNoQuery says that a message has no query that is signed.
var errNoQuery = errors.New("transaction: the coordinator has no such message with a query")

// queryPayload returns the envelope that the query of a message is in: that of its first branch, at the coordinator.
func (b *Bridge) queryPayload(ctx context.Context, gid string) ([]byte, error) {
	t, err := b.queryCoordinator(ctx, gid)
	if err != nil {
		return nil, err
	}
	for _, br := range t.Branches {
		if br.ID != branchID(0) {
			continue
		}
		_, after, _ := strings.Cut(br.URL, "/branch/")
		parts := strings.Split(after, "/") // gid, step, op, mac
		if len(parts) != 4 {
			break
		}
		signed := branch{gid, parts[1], parts[2], br.ID}
		if ok, err := b.signedBy(ctx, signed, []byte(br.Payload), parts[3]); !ok || err != nil {
			return nil, cmp.Or(err, errNoQuery)
		}
		return []byte(br.Payload), nil
	}
	return nil, errNoQuery
}

func (messageMode) view(ctx context.Context, b *Bridge, t *sagaclient.Transaction, v *View) {
	if customOf(t).Primary {
		s := StepView{Name: primaryName, State: StepSucceeded}
		switch v.State {
		case Pending:
			if t.Status == sagaclient.Prepared {
				s.State, s.Reason = StepPending, cmp.Or(b.vainly(t.GID, primaryName, opPrimary),
					b.vainly(t.GID, primaryName, opQuery))
			}
		case Failed:
			s.State, s.Reason = StepFailed, b.refusalReason(ctx, t.GID, primaryName, opPrimary)
			v.detail = "The primary refused, or was not done in time; nothing is delivered."
		}
		v.Steps = append(v.Steps, s)
	}
	for _, br := range t.Branches {
		if br.Op != "action" {
			continue
		}
		s := StepView{Name: stepName(br.URL), State: StepPending}
		switch {
		case v.State == Succeeded, br.Status == sagaclient.Succeeded:
			s.State = StepSucceeded
		case v.State == Failed:
			s.State = StepSkipped
		default:
			s.Reason = b.vainly(t.GID, s.Name, opDo)
		}
		v.Steps = append(v.Steps, s)
	}
}
