//go:build !race

package filtertest_test

const raceDetector = false
