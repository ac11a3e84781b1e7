package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// seenFile says when a server was seen last, by the server itself. Operators and
// scripts read and change it.
const seenFile = "server_metadata.json"

type serverSeen struct {
	LastSeenUnix int64 `json:"last_seen_unix"`
}

// AwayError says that a server was away for so long that it must not come back by
// itself: the others may have taken it out, and given its place to another.
type AwayError struct {
	Path     string // of its data directory
	LastSeen time.Time
	Limit    time.Duration
}

// Error says what to do.
func (e *AwayError) Error() string {
	return fmt.Sprintf("this server was seen last at %s, longer ago than server_rejoin_age_max = %v: "+
		"if the others went on without it, remove what is in its data directory %s; if it is to come back as it was, raise server_rejoin_age_max",
		e.LastSeen.UTC().Format(time.RFC3339), e.Limit, e.Path)
}

// checkSeen refuses to go on as a server that was away for longer than limit.
func (d *dataDir) checkSeen(now time.Time, limit time.Duration) error {
	path := filepath.Join(d.path, seenFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tell how long this server was away: %w", err)
	}
	var seen serverSeen
	if err := json.Unmarshal(content, &seen); err != nil || seen.LastSeenUnix <= 0 {
		return fmt.Errorf(`cannot tell how long this server was away: %s must hold {"last_seen_unix": <seconds>}; remove it if the server was not away`, path)
	}
	if last := time.Unix(seen.LastSeenUnix, 0); now.Sub(last) > limit {
		return &AwayError{Path: d.path, LastSeen: last, Limit: limit}
	}
	return nil
}

// keepSeen writes down that the server is here now.
func (d *dataDir) keepSeen(now time.Time) error {
	content, err := json.Marshal(serverSeen{now.Unix()})
	if err != nil {
		return err
	}
	if err := d.write(seenFile, content, 0o600); err != nil {
		return fmt.Errorf("cannot write down when this server was seen: %w", err)
	}
	return nil
}

// beSeen writes down that the server is here, again and again until ctx ends. A
// disk that is full for a while is no reason to end.
func (a *Agent) beSeen(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := seenInterval
		if err := a.dir.keepSeen(time.Now()); err != nil {
			a.logger.Warn("this will be tried again", "error", err, "retry_in", seenRetry)
			next = seenRetry
		}
		timer.Reset(next)
	}
}
