//go:build race

package agent_test

// raceDetector is whether the race detector watches, which bears some 8,000
// goroutines at most.
const raceDetector = true
