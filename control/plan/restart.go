package plan

import "slices"

// ofProcess are the sections that belong to the process, so that a change of them takes a restart, and what of each
// follows a reload all the same.
var ofProcess = map[string][]string{
	"listen":      {"trustedProxies", "maxBody", "maxBuffered", "maxInFlight"},
	"admin":       {"token", "hosts", "readyNeedsStore"},
	"store":       {"encryption"},
	"coordinator": nil,
}

// needsRestart reports whether a reload cannot make a change at a path.
func needsRestart(steps []string) bool {
	follows, ok := ofProcess[steps[0]]
	return ok && (len(steps) < 2 || !slices.Contains(follows, steps[1]))
}
