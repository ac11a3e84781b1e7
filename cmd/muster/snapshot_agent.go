package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// partialPattern is the name of a file that is not written to its end; the star
// stands for digits.
const partialPattern = ".muster-snapshot-*.partial"

// Names of the snapshot agent's files. They sort by their time.
const archiveTime = "20060102T150405Z"

var (
	archiveName = regexp.MustCompile(`^muster-[0-9]{8}T[0-9]{6}Z-[0-9]{20}\.snap$`)
	partialName = regexp.MustCompile(`^\.muster-snapshot-[0-9]+\.partial$`)
)

func snapshotAgentCommand() *command {
	return &command{
		name:    "agent",
		summary: "Save snapshots into a folder again and again, and keep the newest",
		details: `Each is read back from disk and checked before it counts. When one fails, this
says why and tries again soon, with longer and longer pauses; what was saved
before stays. Files are named muster-<time>-<index>.snap; others in the folder
are never touched. Runs until it is interrupted.

-config-file names a JSON file; what flags say counts before it:
{"snapshot_agent": {"http_addr": "", "token": "", "datacenter": "",
 "snapshot": {"interval": "1h", "retain": 30, "stale": false},
 "local_storage": {"path": "/var/backups/muster"}}}`,
		examples: []example{
			{"Every hour, kept for two days", "muster snapshot agent -interval=1h -retain=48 -local-path=/var/backups/muster"},
			{"From a timer of the system", "muster snapshot agent -once -retain=48 -local-path=/var/backups/muster"},
		},
		new: func() runner { return &snapshotAgentRunner{} },
	}
}

type snapshotAgentRunner struct {
	connection connection
	flags      *flag.FlagSet
	configFile string
	once       bool
	plan       snapshotPlan
}

// snapshotPlan is how often to save, where to, and how much to keep.
type snapshotPlan struct {
	interval time.Duration // zero: once
	retain   int           // zero: all
	folder   string
}

func (r *snapshotAgentRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	r.flags = flags
	flags.StringVar(&r.configFile, "config-file", "", "A JSON `file` with these settings.")
	flags.DurationVar(&r.plan.interval, "interval", time.Hour, "How `long` from one snapshot to the next; 0 saves one and ends.")
	flags.IntVar(&r.plan.retain, "retain", 30, "How `many` snapshots to keep; 0 keeps all.")
	flags.StringVar(&r.plan.folder, "local-path", "", "The `folder` to save into. It is made if it is missing.")
	flags.BoolVar(&r.once, "once", false, "Save one, remove old ones, and end.")
}

func (r *snapshotAgentRunner) run(streams streams, _ []string) error {
	if err := r.settle(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.plan.folder, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder for snapshots: %w", err)
	}
	ctx, stop := untilInterrupted()
	defer stop()
	saver := &snapshotSaver{plan: r.plan, save: r.connection.saveArchive, streams: streams}
	return saver.run(ctx)
}

// settle puts flags and configuration together and checks the result.
func (r *snapshotAgentRunner) settle() error {
	if r.configFile != "" {
		given := map[string]bool{}
		r.flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		config, err := readSnapshotConfig(r.configFile)
		if err == nil {
			err = r.adopt(config, given)
		}
		if err != nil {
			return fmt.Errorf("cannot use the configuration file %s: %w", r.configFile, err)
		}
	}
	if r.once {
		r.plan.interval = 0
	}
	switch {
	case r.plan.folder == "":
		return errors.New("-local-path must name the folder to save into")
	case r.plan.interval < 0:
		return fmt.Errorf("the interval must not be negative, and is %s", r.plan.interval)
	case r.plan.interval > 0 && r.plan.interval < time.Second:
		return fmt.Errorf("the interval must be at least 1s, and is %s", r.plan.interval)
	case r.plan.retain < 0:
		return fmt.Errorf("the number of snapshots to keep must not be negative, and is %d", r.plan.retain)
	}
	return nil
}

// snapshotSaver saves snapshots by a plan.
type snapshotSaver struct {
	plan    snapshotPlan
	save    func(ctx context.Context, folder string, name func(state.ArchiveMeta) string) (savedArchive, error)
	streams streams
}

// run saves until ctx ends, which is no error, or once.
func (s *snapshotSaver) run(ctx context.Context) error {
	failures := 0
	for {
		began := time.Now()
		err := s.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case s.plan.interval == 0:
			return err
		}
		pause := s.plan.interval - time.Since(began)
		failures++
		if err == nil {
			failures = 0
		} else {
			pause = s.pauseAfter(failures)
			s.log(s.streams.err, "Error: %v; failure %d in a row, trying again in %s", err, failures, pause)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// pauseAfter is how long to wait after so many failures in a row.
func (s *snapshotSaver) pauseAfter(failures int) time.Duration {
	longest := min(maxRetryPause, s.plan.interval)
	pause := retryPause
	for i := 1; i < failures && pause < longest; i++ {
		pause *= 2
	}
	return min(pause, longest)
}

// round saves one snapshot and removes what is too old.
func (s *snapshotSaver) round(ctx context.Context) error {
	at := time.Now().UTC()
	saved, err := s.save(ctx, s.plan.folder, func(meta state.ArchiveMeta) string {
		// The digits make names of one second sort by index.
		return fmt.Sprintf("muster-%s-%020d.snap", at.Format(archiveTime), meta.Index)
	})
	if err != nil {
		return fmt.Errorf("cannot save a snapshot: %w", err)
	}
	if saved.warning != "" {
		s.log(s.streams.err, "Warning: %s", saved.warning)
	}
	s.log(s.streams.out, "Saved and verified snapshot to index %d: %s", saved.meta.Index, saved.path)
	// The new snapshot counts, whatever becomes of the old ones.
	if err := s.clean(filepath.Base(saved.path), at); err != nil {
		s.log(s.streams.err, "Warning: cannot remove old snapshots: %v", err)
	}
	return nil
}

// clean removes what the plan does not keep. The newest file stays even if the
// clock was set back and its name sorts below older ones.
func (s *snapshotSaver) clean(newest string, now time.Time) error {
	entries, err := os.ReadDir(s.plan.folder)
	if err != nil {
		return err
	}
	var ours []string
	var problems []error
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		switch name := entry.Name(); {
		case archiveName.MatchString(name) && name != newest:
			ours = append(ours, name)
		case partialName.MatchString(name):
			problems = append(problems, s.removePartial(entry, now))
		}
	}
	slices.Sort(ours)
	if excess := len(ours) + 1 - s.plan.retain; s.plan.retain > 0 && excess > 0 {
		for _, name := range ours[:excess] {
			problems = append(problems, os.Remove(filepath.Join(s.plan.folder, name)))
		}
	}
	return errors.Join(problems...)
}

// removePartial removes what an earlier run, that was killed, left unfinished.
func (s *snapshotSaver) removePartial(entry fs.DirEntry, now time.Time) error {
	about, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) || err == nil && now.Sub(about.ModTime()) < stalePartial {
		return nil
	}
	return errors.Join(err, os.Remove(filepath.Join(s.plan.folder, entry.Name())))
}

// log prints a line with the time.
func (s *snapshotSaver) log(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
}
