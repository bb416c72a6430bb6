package cors

import "time"

// Settings are those of one route.
type Settings struct {
	// Origins are those that are allowed, in lower case: scheme://host, with a port that is not the scheme's own;
	// scheme://*.host for every name below the host; "*" for all, and then it is the only one.
	Origins []string
	// Credentials: scripts may send cookies and the like, and read what comes back. Not with "*".
	Credentials bool
	// Expose are the fields of responses that scripts may read beside the gateway's own and the safelisted ones.
	Expose []string
	MaxAge time.Duration // how long a browser keeps the answer to a preflight; whole seconds count
}
