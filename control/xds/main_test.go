package xds

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that what is stopped leaves no goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
