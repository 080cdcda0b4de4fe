package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// Output runs a program and returns what it printed; an error holds what it
// said on its standard error.
func Output(ctx context.Context, program string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// Pipe runs from into to, and waits for both.
func Pipe(from, to *exec.Cmd) error {
	var said bytes.Buffer
	from.Stderr, to.Stderr = &said, &said
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	into := to.Run()
	pipe.Close() // else from would wait for a reader that is gone
	if err := errors.Join(into, from.Wait()); err != nil {
		return fmt.Errorf("%s into %s: %w: %s", from.Args[0], strings.Join(to.Args[:2], " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// Missing returns the packages of those programs that are not in PATH, sorted.
func Missing(packageOf map[string]string) []string {
	missing := map[string]bool{}
	for program, name := range packageOf {
		if _, err := exec.LookPath(program); err != nil {
			missing[name] = true
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// Install brings packages of Debian.
func Install(ctx context.Context, p *progress.Printer, packages []string) error {
	list := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%s is not installed: install it, or run this as root on Debian, where it is done for you", list)
	}
	p.Say("debian", "installing %s (about half a minute)", list)
	if out, err := apt(ctx, "update", "-qq"); err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, out)
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)
	if out, err := apt(ctx, args...); err != nil {
		return fmt.Errorf("apt-get install %s: %w\n%s", list, err, out)
	}
	return nil
}

func apt(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
