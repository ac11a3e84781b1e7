//go:build !windows && !plan9

package agent

import (
	"fmt"
	"log/slog"
	"log/syslog"
	"strings"
)

// facilities are the facilities of syslog by name (RFC 5424 §6.2.1).
var facilities = map[string]syslog.Priority{
	"KERN": syslog.LOG_KERN, "USER": syslog.LOG_USER, "MAIL": syslog.LOG_MAIL, "DAEMON": syslog.LOG_DAEMON,
	"AUTH": syslog.LOG_AUTH, "SYSLOG": syslog.LOG_SYSLOG, "LPR": syslog.LOG_LPR, "NEWS": syslog.LOG_NEWS,
	"UUCP": syslog.LOG_UUCP, "CRON": syslog.LOG_CRON, "AUTHPRIV": syslog.LOG_AUTHPRIV, "FTP": syslog.LOG_FTP,
	"LOCAL0": syslog.LOG_LOCAL0, "LOCAL1": syslog.LOG_LOCAL1, "LOCAL2": syslog.LOG_LOCAL2, "LOCAL3": syslog.LOG_LOCAL3,
	"LOCAL4": syslog.LOG_LOCAL4, "LOCAL5": syslog.LOG_LOCAL5, "LOCAL6": syslog.LOG_LOCAL6, "LOCAL7": syslog.LOG_LOCAL7,
}

func dialSyslog(facility string) (systemLog, error) {
	priority, ok := facilities[strings.ToUpper(facility)]
	if !ok {
		return nil, fmt.Errorf("syslog has no facility %q", facility)
	}
	w, err := syslog.New(priority|syslog.LOG_NOTICE, SyslogIdent)
	if err != nil {
		return nil, err
	}
	return unixSyslog{w}, nil
}

type unixSyslog struct{ w *syslog.Writer }

func (u unixSyslog) write(level slog.Level, text string) error {
	switch {
	case level >= slog.LevelError:
		return u.w.Err(text)
	case level >= slog.LevelWarn:
		return u.w.Warning(text)
	case level >= slog.LevelInfo:
		return u.w.Info(text)
	default:
		return u.w.Debug(text)
	}
}

func (u unixSyslog) close() error { return u.w.Close() }
