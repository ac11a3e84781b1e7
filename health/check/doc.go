// Package check runs health checks: it turns a [Definition] into a checker of
// one method and calls that on its schedule.
package check
