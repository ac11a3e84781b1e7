//go:build windows || plan9

package agent

import "errors"

func dialSyslog(string) (systemLog, error) { return nil, errors.New("this system has no syslog") }
