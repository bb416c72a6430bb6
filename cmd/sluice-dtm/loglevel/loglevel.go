// Package loglevel sets LOG_LEVEL before DTM's logger looks at it. That does so while the program is initialized,
// before any flag is read, and complains on stderr when the variable is not there. Go initializes this package
// first: it needs nothing, and its path comes before that of what DTM's logger needs.
package loglevel

import "os"

func init() {
	if os.Getenv("LOG_LEVEL") == "" {
		_ = os.Setenv("LOG_LEVEL", "warn") // nothing is lost when that fails
	}
}
