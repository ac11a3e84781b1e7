//go:build windows || plan9

package agent

func dialSyslog(string) (systemLog, error) { return nil, errNoSyslog }
