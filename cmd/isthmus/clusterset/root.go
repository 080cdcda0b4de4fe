// Package clusterset keeps what belongs to a whole clusterset on the machine of
// whoever installs, above all its root, and installs the mesh in its clusters.
package clusterset

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// Files of a clusterset's directory. The key is encrypted with the passphrase;
// who keeps the two apart has the root offline.
const (
	rootCertFile   = "root.crt"
	rootKeyFile    = "root.key"
	passphraseFile = "passphrase"
)

// Home returns the directory of all clustersets: $ISTHMUS_HOME, else ~/.isthmus.
func Home(getenv func(string) string) (string, error) {
	if dir := getenv("ISTHMUS_HOME"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find home directory: %w", err)
	}
	return filepath.Join(home, ".isthmus"), nil
}

// Store is the directory of one clusterset.
type Store struct{ Dir string }

// Open returns the store of the clusterset name below home.
func Open(home, name string) (Store, error) {
	if !trust.ValidCluster(name) {
		return Store{}, fmt.Errorf("clusterset name %q is not a DNS label", name)
	}
	return Store{filepath.Join(home, name)}, nil
}

// Root returns the clusterset's root, and made when it was not there and has
// been created now. Two programs at once get the same one.
func (s Store) Root(domain trust.Domain) (root *ca.Root, made bool, err error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	root, err = s.find(domain)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, false, err
	}
	root, err = s.create(domain)
	return root, err == nil, err
}

// Bundle returns the root certificate as PEM; an error wraps fs.ErrNotExist
// where the clusterset has none here.
func (s Store) Bundle() ([]byte, error) { return os.ReadFile(filepath.Join(s.Dir, rootCertFile)) }

func (s Store) lock() (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the clusterset: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock clusterset: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock clusterset: %w", err)
	}
	return func() { f.Close() }, nil
}

// find reads the root. The certificate is written last, so without it there is none.
func (s Store) find(domain trust.Domain) (*ca.Root, error) {
	cert, err := os.ReadFile(filepath.Join(s.Dir, rootCertFile))
	if err != nil {
		return nil, fmt.Errorf("read root: %w", err)
	}
	key, err := s.need(rootKeyFile)
	if err != nil {
		return nil, err
	}
	passphrase, err := s.need(passphraseFile)
	if err != nil {
		return nil, err
	}
	root, err := ca.LoadRoot(domain, cert, key, bytes.TrimSpace(passphrase))
	if err != nil {
		return nil, fmt.Errorf("root in %s: %w", s.Dir, err)
	}
	return root, nil
}

// need reads a file that must be there beside the certificate; that it is not is
// no reason to make a new root.
func (s Store) need(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("the root's certificate is in %s, but not its %s: %v", s.Dir, name, err)
	}
	return data, nil
}

func (s Store) create(domain trust.Domain) (*ca.Root, error) {
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	passphrase := base64.RawURLEncoding.EncodeToString(secret)
	key, err := root.EncryptedKey([]byte(passphrase))
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{passphraseFile, []byte(passphrase + "\n")}, {rootKeyFile, key}, {rootCertFile, root.CertificatePEM()}} {
		if err := writeFile(filepath.Join(s.Dir, f.name), f.data); err != nil {
			return nil, fmt.Errorf("write root: %w", err)
		}
	}
	return root, nil
}

// writeFile writes a file that only its owner reads, completely or not at all.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
