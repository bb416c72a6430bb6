package transaction

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// A service that takes part in XA registers its branch at the coordinator before it prepares it. It does not reach the
// coordinator, and may do nothing else there: the address that it gets in the query's parameter dtm is a prefix at the
// gateway, and what comes to it is the registration of that one branch, with that one address for the second phase,
// until the transaction's time is over. All that is needed for it is in the prefix, sealed (AES-GCM, RFC 5116) under a
// key that is derived from the secret that signs branch calls: so every gateway of the deployment takes it, also one
// that has lost its store, and whoever reads a service's log learns nothing from it.

// sealedStep is what the prefix says.
type sealedStep struct {
	Step     string    `json:"step"`
	ID       string    `json:"id"`
	Until    time.Time `json:"until"`
	Envelope []byte    `json:"envelope"` // the payload of the second phase
}

// sealedBytesMax is how long an envelope may be: it is in a URL, and some services take no more than 8 KiB of head.
const sealedBytesMax = 3 << 10

// errSealed says that it is longer.
var errSealed = errors.New("transaction: the calls of XA are too long")

// registration returns the prefix under which a service registers a branch, and the address of its second phase.
func (b *Bridge) registration(of branch, key []byte, env *envelope, until time.Time) (
	prefix, phaseTwo string, err error,
) {
	payload := marshal(env)
	if len(payload) > sealedBytesMax {
		return "", "", errSealed
	}
	sealed, err := seal(key, of.gid, &sealedStep{of.step, of.id, until, payload})
	if err != nil {
		return "", "", err
	}
	return b.baseURL + "/xa/" + of.gid + "/" + sealed, b.phaseTwo(of, key, payload), nil
}

func (b *Bridge) phaseTwo(of branch, key, payload []byte) string {
	of.op = opPhaseTwo
	return of.url(b.baseURL, key, payload)
}

// aead is the cipher of prefixes. Its key is the only one that is derived from the secret that way.
func aead(secret []byte) (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("sluice xa registration"))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func seal(secret []byte, gid string, s *sealedStep) (string, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	c, err := aead(secret)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(c.Seal(nil, nil, plain, []byte(gid))), nil
}

func unseal(secret []byte, gid, text string) (*sealedStep, bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	c, err := aead(secret)
	if err != nil {
		return nil, false
	}
	plain, err := c.Open(nil, nil, sealed, []byte(gid))
	if err != nil {
		return nil, false
	}
	s := new(sealedStep)
	return s, json.Unmarshal(plain, s) == nil
}

// unsealed opens a prefix with the configured secret or the store's, and returns the one that it took.
func (b *Bridge) unsealed(ctx context.Context, gid, text string) (s *sealedStep, key []byte, err error) {
	if b.configured != nil {
		if s, ok := unseal(b.configured, gid, text); ok {
			return s, b.configured, nil
		}
	}
	if key, err = b.storedSecret(ctx); err != nil {
		return nil, nil, err
	}
	s, _ = unseal(key, gid, text)
	return s, key, nil
}

// serveRegistration takes the registration of a branch from a service: POST /xa/GID/SEALED/registerBranch.
func (b *Bridge) serveRegistration(w http.ResponseWriter, r *http.Request) {
	status, problem := b.registerXA(w, r)
	result := map[string]string{"dtm_result": "SUCCESS"}
	if status != http.StatusOK { // the words are those that dtmcli looks for
		result = map[string]string{"dtm_result": "FAILURE", "message": problem}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // a service that has gone has not prepared anything
}

func (b *Bridge) registerXA(w http.ResponseWriter, r *http.Request) (status int, problem string) {
	parts := strings.Split(r.URL.Path, "/") // "", xa, gid, sealed, registerBranch
	if len(parts) != 5 || parts[4] != "registerBranch" || r.Method != http.MethodPost {
		return http.StatusNotFound, "only registerBranch is let through here"
	}
	var in struct {
		GID      string `json:"gid"`
		BranchID string `json:"branch_id"`
		URL      string `json:"url"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, payloadBytesMax))
	if err != nil || json.Unmarshal(body, &in) != nil {
		return http.StatusBadRequest, "the registration cannot be read"
	}
	gid := parts[2]
	if !plausible(gid) {
		return http.StatusForbidden, "bad address"
	}
	s, key, err := b.unsealed(r.Context(), gid, parts[3])
	switch {
	case err != nil:
		return http.StatusInternalServerError, "the store does not answer"
	case s == nil, in.GID != gid, in.BranchID != s.ID,
		in.URL != b.phaseTwo(branch{gid, s.Step, opDo, s.ID}, key, s.Envelope):
		b.forged.Warn(b.logger, time.Now(), "transaction: a registration that is not that of its address was refused",
			"gid", gid, "branch", in.BranchID, "peer", r.RemoteAddr)
		return http.StatusForbidden, "the address is that of another branch"
	case time.Now().After(s.Until):
		return http.StatusConflict, "the time of the transaction is over"
	}
	err = b.client.RegisterBranch(r.Context(), &sagaclient.Registration{
		GID: gid, Mode: sagaclient.XA, BranchID: s.ID, Payload: s.Envelope, PhaseTwo: in.URL,
	})
	if err == nil {
		return http.StatusOK, ""
	}
	b.logger.Warn("transaction: a service could not register its branch", "gid", gid, "step", s.Step, "error", err)
	if errors.Is(err, sagaclient.ErrRejected) {
		return http.StatusConflict, "the transaction has ended"
	}
	return http.StatusInternalServerError, "the coordinator has not taken it"
}
