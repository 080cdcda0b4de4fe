package cache

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/kind/progress"
)

func fresh(t *testing.T) Cache {
	return Cache{Dir: t.TempDir(), Progress: progress.New(io.Discard)}
}

// The same inputs are built once, others anew, and what older ones gave goes.
func TestEnsure(t *testing.T) {
	c, built := fresh(t), 0
	step := func(input string) Step {
		return Step{Name: "part", Inputs: []string{input}, Build: func(_ context.Context, dir string) error {
			built++
			return os.WriteFile(filepath.Join(dir, "out"), []byte(input), 0o644)
		}}
	}
	var dirs []string
	for _, input := range []string{"a", "a", "b"} {
		dir, err := c.Ensure(t.Context(), step(input))
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(data) != input {
			t.Errorf("%s: %q, %v", input, data, err)
		}
		dirs = append(dirs, dir)
	}
	if built != 2 || dirs[0] != dirs[1] || dirs[0] == dirs[2] {
		t.Errorf("built %d times: %v", built, dirs)
	}
	if _, err := os.Stat(dirs[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what older inputs gave is still there: %v", err)
	}
}

// A build that fails leaves nothing that could be taken for its result.
func TestFailure(t *testing.T) {
	c, fail := fresh(t), true
	step := Step{Name: "part", Build: func(context.Context, string) error {
		if fail {
			return errors.New("no")
		}
		return nil
	}}
	if _, err := c.Ensure(t.Context(), step); err == nil {
		t.Fatal("no error")
	}
	fail = false
	if _, err := c.Ensure(t.Context(), step); err != nil {
		t.Error(err)
	}
}

// Of those who ask at once, one builds.
func TestAtOnce(t *testing.T) {
	c := fresh(t)
	var built atomic.Int32
	step := Step{Name: "part", Build: func(context.Context, string) error { built.Add(1); return nil }}
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			if _, err := c.Ensure(t.Context(), step); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
}

// Inputs that run into each other when joined are different inputs.
func TestKey(t *testing.T) {
	if (Step{Inputs: []string{"ab", "c"}}).Key() == (Step{Inputs: []string{"a", "bc"}}).Key() {
		t.Error("the same key")
	}
}
