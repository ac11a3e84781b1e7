package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Watch calls changed after the files of s changed, came or went, and then
// stayed as they are for [WatchInterval], so that what is written in several
// steps is read once. It returns when ctx ends. Files are told apart by size and
// time of change, not by what is in them.
func Watch(ctx context.Context, s Sources, changed func()) {
	ticker := time.NewTicker(WatchInterval)
	defer ticker.Stop()
	known := fingerprint(s)
	last := known
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := fingerprint(s)
		if now == last && now != known {
			known = now
			changed()
		}
		last = now
	}
}

// fingerprint describes the files of s as they stand on the disk.
func fingerprint(s Sources) string {
	var b strings.Builder
	for _, path := range s.Files {
		describe(&b, path)
		entries, _ := os.ReadDir(path) // of a file there are none
		for _, entry := range entries[:min(len(entries), MaxFiles)] {
			describe(&b, filepath.Join(path, entry.Name()))
		}
	}
	return b.String()
}

// describe adds what tells a file from the one that stood there before. The
// time of a folder says nothing: files that are skipped come and go.
func describe(b *strings.Builder, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		fmt.Fprintf(b, "%q is not there\n", path)
	case info.IsDir():
		fmt.Fprintf(b, "%q\n", path)
	default:
		fmt.Fprintf(b, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
}
