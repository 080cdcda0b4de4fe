package ca_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	temporary := filepath.Join(dir, "."+name)
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func writeMaterial(t *testing.T, dir string, opts ca.Options) {
	t.Helper()
	write(t, dir, api.CAChainKey, opts.ChainPEM)
	write(t, dir, api.CAKeyKey, opts.KeyPEM)
	write(t, dir, api.CABundleKey, opts.BundlePEM)
}

// The key file is truncated, removed, made writable, replaced by another's: the
// authority goes on with what it had, says so, and takes the next good one.
func TestFollowKeepsLastGood(t *testing.T) {
	t.Parallel()
	root := newRoot(t, ca.RootOptions{})
	opts, next := options(t, root, "east"), options(t, root, "east")
	dir := t.TempDir()
	writeMaterial(t, dir, opts)
	authority := newAuthority(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reports := make(chan error)
	ended := make(chan error, 1)
	go func() {
		ended <- authority.Follow(ctx, dir, 5*time.Millisecond, func(err error) {
			select {
			case reports <- err:
			case <-ctx.Done():
			}
		})
	}()
	// Files are replaced one after another, so errors on the way to the wanted
	// state are right.
	await := func(name string, want string) {
		t.Helper()
		for {
			select {
			case err := <-reports:
				if err == nil && want == "" || err != nil && want != "" && strings.Contains(err.Error(), want) {
					if _, err := authority.Issue(identity(t, "spiffe://mesh.test/ns/shop/sa/web")); err != nil {
						t.Fatalf("%s: no longer signs: %v", name, err)
					}
					return
				}
			case <-ctx.Done():
				t.Fatalf("%s: no report with %q", name, want)
			}
		}
	}
	keyFile := filepath.Join(dir, api.CAKeyKey)
	await("start", "")
	write(t, dir, api.CAKeyKey, opts.KeyPEM[:40])
	await("truncated", "cut short")
	write(t, dir, api.CAKeyKey, opts.KeyPEM)
	await("restored", "")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	await("removed", "no such file")
	write(t, dir, api.CAKeyKey, next.KeyPEM)
	await("another's key", "the key is not")
	write(t, dir, api.CAChainKey, next.ChainPEM)
	await("replaced", "")
	if err := os.Chmod(keyFile, 0o666); err != nil {
		t.Fatal(err)
	}
	await("wrong mode", "anybody may write")
	if err := os.Chmod(keyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	await("right mode", "")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestReadMaterialRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeMaterial(t, dir, options(t, newRoot(t, ca.RootOptions{}), "east"))
	if _, err := ca.ReadMaterial(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, api.CABundleKey, make([]byte, 2<<20))
	if _, err := ca.ReadMaterial(dir); err == nil {
		t.Error("a bundle of 2 MiB was read")
	}
}
