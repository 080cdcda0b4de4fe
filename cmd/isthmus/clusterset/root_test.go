package clusterset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/trust"
)

func testDomain(t *testing.T) trust.Domain {
	t.Helper()
	domain, err := trust.ParseDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

func testStore(t *testing.T) Store {
	t.Helper()
	store, err := Open(t.TempDir(), "set")
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Whoever comes first makes the root; all others, at once or later, find the same.
func TestRootIsMadeOnce(t *testing.T) {
	store, domain := testStore(t), testDomain(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, seen := 0, map[string]bool{}
	for range 4 {
		wg.Go(func() {
			root, first, err := store.Root(domain)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if first {
				made++
			}
			seen[string(root.CertificatePEM())] = true
		})
	}
	wg.Wait()
	if made != 1 || len(seen) != 1 {
		t.Errorf("made %d times, %d different", made, len(seen))
	}
	for _, name := range []string{rootKeyFile, passphraseFile, rootCertFile} {
		info, err := os.Stat(filepath.Join(store.Dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	key, err := os.ReadFile(filepath.Join(store.Dir, rootKeyFile))
	if err != nil || !bytes.Contains(key, []byte("ENCRYPTED PRIVATE KEY")) {
		t.Errorf("the key is not encrypted: %v", err)
	}
}

// A root that lost a part is an error; it is never replaced by a new one.
func TestRootIsNeverReplaced(t *testing.T) {
	for _, lost := range []string{rootKeyFile, passphraseFile} {
		store, domain := testStore(t), testDomain(t)
		if _, _, err := store.Root(domain); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(store.Dir, lost)); err != nil {
			t.Fatal(err)
		}
		if _, made, err := store.Root(domain); err == nil || made {
			t.Errorf("without %s: made %v, err %v", lost, made, err)
		}
	}
}

func TestOpenRefusesNames(t *testing.T) {
	for _, name := range []string{"", "../x", "A", "a/b"} {
		if _, err := Open(t.TempDir(), name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func testIssuer(t *testing.T, store Store) *Issuer {
	t.Helper()
	issuer, err := OpenIssuer(store, IssuerFiles{}, testDomain(t))
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// An intermediate of this root is kept, one that cannot sign is replaced, one of
// another root is refused.
func TestIntermediate(t *testing.T) {
	domain := testDomain(t)
	issuer := testIssuer(t, testStore(t))
	first, err := issuer.Intermediate("east", domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := issuer.Intermediate("east", domain, first)
	if err != nil || !bytes.Equal(kept.Key, first.Key) {
		t.Errorf("not kept: %v", err)
	}
	other, err := issuer.Intermediate("west", domain, first) // constrained to east
	if err != nil || bytes.Equal(other.Key, first.Key) {
		t.Errorf("another cluster's was kept: %v", err)
	}
	if _, err := testIssuer(t, testStore(t)).Intermediate("east", domain, first); !errors.Is(err, ErrOtherRoot) {
		t.Errorf("of another root: %v", err)
	}
	if _, err := issuer.Intermediate("east", domain, &install.CA{Bundle: []byte("nonsense")}); err == nil {
		t.Error("a bundle that cannot be read was taken")
	}
}

// What the user brings is used: an intermediate made elsewhere, or a root.
func TestIssuerFromFiles(t *testing.T) {
	domain, store := testDomain(t), testStore(t)
	made, err := testIssuer(t, store).Intermediate("east", domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := IssuerFiles{Chain: filepath.Join(dir, "chain"), Key: filepath.Join(dir, "key"), Bundle: filepath.Join(dir, "bundle")}
	for path, data := range map[string][]byte{files.Chain: made.Chain, files.Key: made.Key, files.Bundle: made.Bundle} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	given, err := OpenIssuer(Store{}, files, domain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := given.Intermediate("east", domain, nil); err != nil || !given.Single() {
		t.Errorf("given intermediate: %v", err)
	}
	if _, err := given.Intermediate("west", domain, nil); err == nil {
		t.Error("east's intermediate was taken for west")
	}
	root := IssuerFiles{RootCert: filepath.Join(store.Dir, rootCertFile), RootKey: filepath.Join(store.Dir, rootKeyFile), Passphrase: filepath.Join(store.Dir, passphraseFile)}
	brought, err := OpenIssuer(Store{}, root, domain)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := brought.Intermediate("east", domain, made); err != nil || !bytes.Equal(kept.Key, made.Key) {
		t.Errorf("given root: %v", err)
	}
	if _, err := OpenIssuer(Store{}, IssuerFiles{RootCert: root.RootCert}, domain); err == nil {
		t.Error("a root without key was taken")
	}
}
