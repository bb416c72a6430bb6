package sagaclient

import (
	"strings"
	"testing"
)

func TestGIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	add := func(made, name string) {
		t.Helper()
		if len(made) != GIDLength || !gidPattern.MatchString(made) {
			t.Errorf("%s: gid %q is not %d of [0-9a-z]", name, made, GIDLength)
		}
		if other, taken := seen[made]; taken {
			t.Errorf("%s and %s have one gid", name, other)
		}
		seen[made] = name
	}
	for range 1000 {
		add(NewGID(), "random")
	}
	for _, parts := range [][]string{
		nil, {""}, {"", ""}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a", "b", "c"}, {"ABC"}, {"abc "}, {"abc\x00"},
		{"order", "1"}, {"order", "11"}, {"order", strings.Repeat("1", 1<<16)}, {"\x00\x00\x00\x00\x00\x00\x00\x01a"},
	} {
		name := strings.Join(parts, "|")
		made := GIDFor(parts...)
		add(made, name)
		if again := GIDFor(parts...); again != made {
			t.Errorf("%s: two gids for one key", name)
		}
	}
}

// Gids that were made by an earlier version of this package are still found: this one never changes.
func TestGIDForIsStable(t *testing.T) {
	t.Parallel()
	if got, want := GIDFor("order", "4711"), "l2qojvgm1vdrqadiad94egn5s2pukpe1btij9osu"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
