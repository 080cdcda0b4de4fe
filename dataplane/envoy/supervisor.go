package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Options configures a Supervisor. Zero durations mean the defaults.
type Options struct {
	Path           string // required; the program
	Args           []string
	Stdout, Stderr io.Writer     // nil discards
	Backoff        time.Duration // before the first restart; doubled up to 50 times that; 0 means 200ms
	Settled        time.Duration // a process that lived this long starts the backoff anew; 0 means 30s
	Grace          time.Duration // between SIGTERM and SIGKILL; 0 means 5s
	Log            *slog.Logger  // nil discards
}

// A Supervisor keeps one process running.
type Supervisor struct {
	opts Options

	restarts atomic.Int64
}

// New checks opts.
func New(opts Options) (*Supervisor, error) {
	if opts.Path == "" {
		return nil, errors.New("envoy: no program")
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&opts.Backoff, 200 * time.Millisecond}, {&opts.Settled, 30 * time.Second}, {&opts.Grace, 5 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{opts: opts}, nil
}

// Restarts returns how often the process was started again.
func (s *Supervisor) Restarts() int { return int(s.restarts.Load()) }

// Run starts the process, and starts it again whenever it ends, until ctx ends.
// Then it stops it: SIGTERM first, SIGKILL after Grace. A program that is not
// there is an error at once.
func (s *Supervisor) Run(ctx context.Context) error {
	path, err := exec.LookPath(s.opts.Path)
	if err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	// The process is to die with us, and what the kernel watches for that is the
	// thread that started it. So this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for tries := 0; ; tries++ {
		started := time.Now()
		err := s.once(ctx, path)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > s.opts.Settled {
			tries = 0
		}
		wait := s.wait(tries)
		s.opts.Log.Error("envoy ended, starting it again", "err", err, "wait", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		s.restarts.Add(1)
	}
}

// wait doubles up to 50 times Backoff; the second half is by chance.
func (s *Supervisor) wait(tries int) time.Duration {
	d := 50 * s.opts.Backoff
	if tries < 6 {
		d = s.opts.Backoff << tries
	}
	return d/2 + rand.N(d/2+1)
}

// once runs the process to its end, which ctx brings about.
func (s *Supervisor) once(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, path, s.opts.Args...)
	cmd.Stdout, cmd.Stderr = s.opts.Stdout, s.opts.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = s.opts.Grace
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}
