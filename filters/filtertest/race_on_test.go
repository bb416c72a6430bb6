//go:build race

package filtertest_test

// raceDetector: with it sync.Pool drops what it is given now and then, and allocations cannot be
// counted.
const raceDetector = true
