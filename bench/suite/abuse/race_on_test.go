//go:build race

package abuse_test

const (
	raceFactor = 10     // the shadow memory of the race detector, which the gateway runs under too
	frameCount = 10_000 // and its slowness
)
