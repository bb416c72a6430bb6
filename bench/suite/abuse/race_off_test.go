//go:build !race

package abuse_test

const (
	raceFactor = 1
	frameCount = 40_000 // of a flood of frames on each connection, at most: the gateway may close before
)
