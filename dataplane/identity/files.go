package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Names in Options.Dir. Key and chain share a file, so that a crash cannot leave
// one without the other.
const (
	identityFile = "identity.pem" // the key, then the chain
	bundleFile   = "bundle.pem"
)

// recall takes the roots and the identity that an earlier process kept. What is
// damaged, expired or not of our trust domain is left alone: a new one comes.
func (i *Identity) recall() {
	i.readBundle()
	if i.bundle.IsZero() {
		if kept, err := i.parseBundle(filepath.Join(i.opts.Dir, bundleFile)); err == nil {
			i.bundle = kept
		}
	}
	svid, err := readIdentity(filepath.Join(i.opts.Dir, identityFile))
	if err == nil {
		err = i.takeSVID(svid)
	}
	switch {
	case err == nil:
		i.log.Info("identity kept from before", "id", svid.ID.String(), "not_after", svid.NotAfter.UTC().Format(time.RFC3339))
	case !errors.Is(err, fs.ErrNotExist):
		i.log.Warn("kept identity is of no use", "err", err)
	}
}

func readIdentity(path string) (trust.SVID, error) {
	content, err := readBounded(path)
	if err != nil {
		return trust.SVID{}, err
	}
	end := []byte("-----END PRIVATE KEY-----\n")
	key, chain, ok := bytes.Cut(content, end)
	if !ok {
		return trust.SVID{}, errors.New("no key in the kept identity")
	}
	return trust.ParseSVID(chain, slices.Concat(key, end))
}

// keep writes roots and identity for the next process.
func (i *Identity) keep() error {
	i.mu.Lock()
	svid, bundle := i.svid, i.bundle
	i.mu.Unlock()
	if err := os.MkdirAll(i.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	if !bundle.IsZero() {
		if err := writeFile(i.opts.Dir, bundleFile, bundle.PEM()); err != nil {
			return fmt.Errorf("keep roots: %w", err)
		}
	}
	if svid.IsZero() {
		return nil
	}
	key, err := svid.KeyPEM()
	if err != nil {
		return err
	}
	if err := writeFile(i.opts.Dir, identityFile, append(key, svid.ChainPEM()...)); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	return nil
}

// writeFile replaces dir/name as a whole, readable by us alone.
func writeFile(dir, name string, content []byte) error {
	file, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // once renamed, there is nothing to remove
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(dir, name))
}

// followBundle looks at the roots' file until ctx ends.
func (i *Identity) followBundle(ctx context.Context) {
	ticker := time.NewTicker(i.opts.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !i.readBundle() {
			continue
		}
		i.log.Info("roots changed", "bundle", i.Status().Bundle)
		if err := i.keep(); err != nil {
			i.log.Warn("roots not kept for a restart", "err", err)
		}
	}
}

// readBundle takes the roots of the file, or keeps the last good ones and says
// why once. It reports whether they changed.
func (i *Identity) readBundle() bool {
	bundle, err := i.parseBundle(i.opts.BundlePath)
	if err == nil {
		return i.takeBundle(bundle)
	}
	i.mu.Lock()
	again := i.status.BundleError == err.Error()
	i.status.BundleError = err.Error()
	i.mu.Unlock()
	if !again {
		i.log.Warn("roots not usable, keeping the last good ones", "err", err)
	}
	return false
}

func (i *Identity) parseBundle(path string) (trust.Bundle, error) {
	content, err := readBounded(path)
	if err != nil {
		return trust.Bundle{}, err
	}
	bundle, err := trust.ParseBundle(i.opts.Domain, content)
	if err != nil {
		return trust.Bundle{}, err
	}
	return bundle, bundle.CheckTime(time.Now())
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > trust.MaxPEMSize {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", path, trust.MaxPEMSize)
	}
	return os.ReadFile(path)
}
