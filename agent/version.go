package agent

import (
	"runtime/debug"
	"time"
)

// Version is Muster's own version, after the rules of semantic versioning.
const Version = "0.1.0-dev"

// CompatVersion is the version of Consul whose public interface this agent
// answers. Clients find it wherever that interface tells a version, and choose
// by it what they ask for, so it is plain numbers.
const CompatVersion = "1.21.4"

// Revision is the commit that the binary was built from, abbreviated to eight
// characters and followed by "+changes" if the working tree differed from it,
// or "unknown" if the binary was built without version control information.
func Revision() string {
	const abbreviated = 8
	revision := buildSetting("vcs.revision")
	if revision == "" {
		return "unknown"
	}
	if len(revision) > abbreviated {
		revision = revision[:abbreviated]
	}
	if buildSetting("vcs.modified") == "true" {
		revision += "+changes"
	}
	return revision
}

// BuildDate is the time of the commit that the binary was built from, in UTC,
// or the zero time if that is not known. The moment of the build itself is left
// out of the binary, so that the same source always gives the same bytes.
func BuildDate() time.Time {
	date, err := time.Parse(time.RFC3339, buildSetting("vcs.time"))
	if err != nil {
		return time.Time{}
	}
	return date.UTC()
}

// buildSetting reads what the Go toolchain recorded in the binary under key.
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == key {
			return setting.Value
		}
	}
	return ""
}
