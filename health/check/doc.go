// Package check runs health checks: it turns a [Definition] into a checker of
// one method and calls that on its schedule.
//
// A checker gets a context and returns a status with a text. It ends with its
// context, whatever its peer does, keeps no more than the limits of this package
// allow of what the peer says, and leaves no process, connection or goroutine
// behind. [Start] gives it a timer: the first run comes after a random part of
// the interval, the next ones an interval after the end of the one before. A check
// that hangs holds a goroutine until its timeout and delays no other.
//
// Two kinds are different. A TTL check is told its status and has a timer that
// ends it. An alias check follows a [Target], which the agent provides.
package check
