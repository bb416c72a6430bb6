package idempotencyembedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// secrets is all secrets. The store's mutex guards it.
type secrets struct {
	values  map[string]*secret
	pending map[string]*seglog.Batch // of those that were drawn and are being written
}

type secret struct {
	name  string
	value []byte
	at    seglog.Ref
}

// AppendBody implements [seglog.Item].
func (s *secret) AppendBody(dst []byte) []byte { return append(dst, s.value...) }

func newSecrets() secrets {
	return secrets{values: map[string]*secret{}, pending: map[string]*seglog.Batch{}}
}

// put takes over a secret that lies at a place now. It returns where it lay before.
func (s *secrets) put(sec *secret, at seglog.Ref) (before seglog.Ref) {
	if old := s.values[sec.name]; old != nil {
		before = old.at
	}
	sec.at = at
	s.values[sec.name] = sec
	delete(s.pending, sec.name)
	return before
}

func (s *secrets) failed(sec *secret) { delete(s.pending, sec.name) }

func (s *secrets) standsAt(name string, at seglog.Ref) bool {
	sec := s.values[name]
	return sec != nil && sec.at == at
}

// move says that a secret was copied, and reports whether it stands at the new place now.
func (s *secrets) move(name string, from, to seglog.Ref) bool {
	if !s.standsAt(name, from) {
		return false
	}
	s.values[name].at = to
	return true
}

// Secret implements [idempotency.Store]; the secret stays as long as the folder.
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	if len(name) > idMax {
		return nil, fmt.Errorf("idempotencyembedded: a secret's name of %d bytes, at most %d", len(name), idMax)
	}
	for {
		if err := s.waitWritable(ctx); err != nil {
			return nil, err
		}
		value, b, err := s.trySecret(name, n)
		if err != nil || b == nil {
			return value, err
		}
		if err := outcome(ctx, b); err != nil {
			return nil, err
		}
	}
}

// trySecret returns a secret, or the batch in which it becomes durable.
func (s *Store) trySecret(name string, n int) ([]byte, *seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := s.secrets.values[name]; sec != nil {
		if len(sec.value) != n {
			return nil, nil, fmt.Errorf("idempotencyembedded: secret %q has %d bytes, asked for %d",
				name, len(sec.value), n)
		}
		return bytes.Clone(sec.value), nil, nil
	}
	if b := s.secrets.pending[name]; b != nil {
		return nil, b, nil
	}
	sec := &secret{name: strings.Clone(name), value: make([]byte, n)}
	_, _ = rand.Read(sec.value) // never fails, as crypto/rand says
	b, err := s.appendSecretLocked(sec)
	if err == nil {
		s.secrets.pending[sec.name] = b
	}
	return nil, b, err
}

func (s *Store) appendSecretLocked(sec *secret) (*seglog.Batch, error) {
	b, err := s.log.AppendLocked(seglog.Header{Kind: kindSecret, Key: sec.name, Expires: time.Unix(0, 0)}, sec)
	if err != nil {
		return nil, notTaken(err)
	}
	return b, nil
}
