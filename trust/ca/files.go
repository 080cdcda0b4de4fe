package ca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// ReadMaterial reads the three files of a mounted Secret api.CASecretName. A
// file that anybody may write is refused.
func ReadMaterial(dir string) (Material, error) {
	var m Material
	for _, file := range []struct {
		name string
		to   *[]byte
	}{{api.CAChainKey, &m.Chain}, {api.CAKeyKey, &m.Key}, {api.CABundleKey, &m.Bundle}} {
		content, err := readFile(filepath.Join(dir, file.name))
		if err != nil {
			return Material{}, fmt.Errorf("read ca material: %w", err)
		}
		*file.to = content
	}
	return m, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > trust.MaxPEMSize {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", path, trust.MaxPEMSize)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("%s: anybody may write it (mode %#o)", path, info.Mode().Perm())
	}
	return os.ReadFile(path)
}

// Equal reports whether both are the same bytes.
func (m Material) Equal(other Material) bool {
	return bytes.Equal(m.Chain, other.Chain) && bytes.Equal(m.Key, other.Key) && bytes.Equal(m.Bundle, other.Bundle)
}

// Follow gives a the material in dir whenever it changes, looking every
// interval, until ctx ends. report, which may be nil, is called with nil after each
// change that was taken, and with the error, once for each different one, when
// the files cannot be used: then a goes on with what it has.
func (a *Authority) Follow(ctx context.Context, dir string, interval time.Duration, report func(error)) error {
	if interval <= 0 {
		return errors.New("follow ca material: interval must be positive")
	}
	if report == nil {
		report = func(error) {}
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	f := follower{authority: a, dir: dir, report: report}
	f.look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f.look()
		}
	}
}

type follower struct {
	authority *Authority
	dir       string
	report    func(error)
	taken     Material // last good
	failure   string   // last error reported, "" when all is well
}

func (f *follower) look() {
	m, err := ReadMaterial(f.dir)
	if err == nil && m.Equal(f.taken) && f.failure == "" {
		return
	}
	if err == nil {
		err = f.authority.Replace(m)
	}
	if err == nil {
		f.taken, f.failure = m, ""
		f.report(nil)
	} else if f.failure != err.Error() {
		f.failure = err.Error()
		f.report(err)
	}
}
