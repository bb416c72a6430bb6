//go:build race

package message

// Poison overwrites memory that nothing may refer to any more, so that a string which was kept too
// long shows in the tests.
func Poison(b []byte) {
	for i := range b {
		b[i] = '!'
	}
}
