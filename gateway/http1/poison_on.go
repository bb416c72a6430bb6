//go:build race

package http1

// poison overwrites memory that nothing may refer to any more, so that a string which was kept too long shows in the tests.
func poison(b []byte) {
	for i := range b {
		b[i] = '!'
	}
}
