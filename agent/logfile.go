package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogFileConfig says where the log is kept, and when the file is changed.
type LogFileConfig struct {
	// Path is the file; its folder must be there.
	Path string
	// MaxBytes is the size at which the file is changed; zero or below never is.
	MaxBytes int64
	// MaxAge is the age, from its opening, at which the file is changed; zero or
	// below never is.
	MaxAge time.Duration
	// MaxFiles is how many old files are kept: all if it is zero, none if it is
	// below.
	MaxFiles int
}

// LogFile is a log that begins a new file now and then. The old one gets the
// time into its name: agent.log becomes agent-1700000000000000000.log.
type LogFile struct {
	cfg LogFileConfig

	mu     sync.Mutex
	file   *os.File
	size   int64
	opened time.Time
	failed time.Time // when the file could not be changed last
}

// OpenLogFile opens the file, and goes on where another process ended.
func OpenLogFile(cfg LogFileConfig) (*LogFile, error) {
	l := &LogFile{cfg: cfg}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("cannot open the log file (see log_file): %w", err)
	}
	return l, nil
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && info.Mode().Type()&fs.ModeDevice == 0 {
		err = fmt.Errorf("%s is not a file", l.cfg.Path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size, l.opened = f, info.Size(), time.Now()
	return nil
}

// Write writes one message, into a new file if the old one is due. A file that
// cannot be changed is written on.
func (l *LogFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, os.ErrClosed
	}
	var failure error
	if l.due() {
		if failure = l.change(); failure != nil {
			l.failed = time.Now()
		}
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return n, errors.Join(failure, err)
}

// due reports whether the next message belongs into a new file.
func (l *LogFile) due() bool {
	if l.size == 0 || !l.failed.IsZero() && time.Since(l.failed) < logRetry {
		return false
	}
	return l.cfg.MaxBytes > 0 && l.size >= l.cfg.MaxBytes || l.cfg.MaxAge > 0 && time.Since(l.opened) >= l.cfg.MaxAge
}

// change begins a new file. There is one to write into at every moment.
func (l *LogFile) change() error {
	folder, base, ext := l.parts()
	archived := filepath.Join(folder, base+"-"+strconv.FormatInt(time.Now().UnixNano(), 10)+ext)
	err := os.Rename(l.cfg.Path, archived)
	moved := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody else moves it too
		return fmt.Errorf("cannot change the log file: %w", err)
	}
	old := l.file
	if err := l.open(); err != nil {
		if moved {
			err = errors.Join(err, os.Rename(archived, l.cfg.Path))
		}
		return fmt.Errorf("cannot change the log file: %w", err)
	}
	return errors.Join(old.Close(), l.prune())
}

// parts are the folder of the file, and its name in two.
func (l *LogFile) parts() (folder, base, ext string) {
	folder, name := filepath.Split(l.cfg.Path)
	ext = filepath.Ext(name)
	base = strings.TrimSuffix(name, ext)
	if ext == "" {
		ext = ".log"
	}
	return folder, base, ext
}

// prune removes the oldest files beyond those that are to be kept.
func (l *LogFile) prune() error {
	if l.cfg.MaxFiles == 0 {
		return nil
	}
	folder, base, ext := l.parts()
	entries, err := os.ReadDir(filepath.Clean(folder))
	if err != nil {
		return fmt.Errorf("cannot find old log files: %w", err)
	}
	var times []int64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), base+"-")
		digits, ok2 := strings.CutSuffix(digits, ext)
		if nanos, err := strconv.ParseInt(digits, 10, 64); ok && ok2 && err == nil && strconv.FormatInt(nanos, 10) == digits && nanos > 0 {
			times = append(times, nanos)
		}
	}
	slices.Sort(times)
	for _, nanos := range times[:max(0, len(times)-max(0, l.cfg.MaxFiles))] {
		err = errors.Join(err, os.Remove(filepath.Join(folder, base+"-"+strconv.FormatInt(nanos, 10)+ext)))
	}
	return err
}

// Close closes the file. Messages that come later are lost.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
