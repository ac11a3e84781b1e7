// Package config turns files, flags and fragments into one [Config]: parse,
// merge, resolve and validate are pure functions on values.
package config
