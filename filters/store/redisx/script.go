package redisx

import (
	"crypto/sha1" // the name that Redis gives a script
	"encoding/hex"
)

// Script is a Lua script. It takes its keys and one argument, a string, and replies with one
// string: every further part costs both sides more time than its bytes do. It is immutable.
type Script struct {
	source, hash string
	heads        [2]string // of the command that runs it by its hash, on one key and on two
	untilRun     bool
	awaited      func(reply string) bool // see [Script.Replicated]; nil: never
}

// NewScript makes a script of its source text. Redis is sent the text only when it does not have
// the script yet.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source))
	s := &Script{source: source, hash: hex.EncodeToString(sum[:])}
	for i := range s.heads {
		s.heads[i] = string(appendHead(nil, "evalsha", s.hash, i+1))
	}
	return s
}

// UntilRun makes a script that is sent again until its deadline for as long as the cluster says
// that it cannot run it now: a slot moves, or the cluster is down. Other scripts are sent again
// once.
func (s *Script) UntilRun() *Script {
	patient := *s
	patient.untilRun = true
	return &patient
}

// NeedsAllKeys is the reply of a script that was given its first key alone and cannot do without
// the second one. It has then changed nothing. See [Client.Run].
const NeedsAllKeys = "K"
