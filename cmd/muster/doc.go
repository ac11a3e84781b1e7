// Command muster is the agent and its command line in one binary: it reads
// flags, picks a subcommand, turns signals into what the agent is to do, and
// chooses the exit code. It answers to the name consul as well, by a link.
package main
