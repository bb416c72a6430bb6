package participant_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

func TestMain(m *testing.M) { build.Main(m) }
