//go:build !race

package agent_test

// raceDetector is whether the race detector watches.
const raceDetector = false
