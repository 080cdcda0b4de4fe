// Package cache keeps what was built, under a name and a key made of all that
// went into it: the same inputs are never built twice.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// A Cache is a folder: DIR/NAME/KEY holds what one step made.
type Cache struct {
	Dir      string
	Progress *progress.Printer
}

// A Step is one thing to be built.
type Step struct {
	Name   string
	About  time.Duration // how long it took on two free cores; 0 says nothing
	Inputs []string      // everything that may change what comes out
	Build  func(ctx context.Context, dir string) error
}

// Key is the hash of the step's inputs.
func (s Step) Key() string {
	h := sha256.New()
	for _, input := range s.Inputs {
		fmt.Fprintf(h, "%d:%s", len(input), input)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Ensure returns the folder that holds what the step makes, and builds it where
// it is not there yet. Two processes may ask at once: one waits. What older
// inputs gave goes.
func (c Cache) Ensure(ctx context.Context, s Step) (string, error) {
	home := filepath.Join(c.Dir, s.Name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, home+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(home, s.Key())
	if _, err := os.Stat(dir); err == nil {
		c.Progress.Say(s.Name, "cached")
		return dir, nil
	}
	if err := c.build(ctx, s, dir); err != nil {
		return "", fmt.Errorf("build %s: %w", s.Name, err)
	}
	return dir, sweep(home, s.Key())
}

func (c Cache) build(ctx context.Context, s Step, dir string) error {
	note := "building"
	if s.About > 0 {
		note += fmt.Sprintf(" (%s on two free cores with an empty cache)", s.About)
	}
	c.Progress.Say(s.Name, "%s", note)
	started := time.Now()
	fresh := dir + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o755)); err != nil {
		return err
	}
	if err := s.Build(ctx, fresh); err != nil {
		if ctx.Err() != nil { // what the build says then is that it was killed
			err = ctx.Err()
		}
		return errors.Join(err, os.RemoveAll(fresh))
	}
	c.Progress.Say(s.Name, "built in %.1f s", time.Since(started).Seconds())
	return os.Rename(fresh, dir)
}

// sweep removes what other keys left.
func sweep(home, keep string) error {
	entries, err := os.ReadDir(home)
	for _, e := range entries {
		if e.Name() != keep {
			err = errors.Join(err, os.RemoveAll(filepath.Join(home, e.Name())))
		}
	}
	return err
}

// Sources is a hash of all files below the folders but tests.
func Sources(dirs ...string) (string, error) {
	h := sha256.New()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(dir, path)
			fmt.Fprintf(h, "%s %d\n", relative, len(data))
			h.Write(data)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("hash %s: %w", dir, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock takes an exclusive lock on path, waiting for it until ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
