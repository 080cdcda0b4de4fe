package clusterset

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// Issuer makes the intermediates of clusters.
type Issuer struct {
	root *ca.Root
	// given is an intermediate made elsewhere, for one cluster; then root is nil.
	given *install.CA
	// Bundle is the trust bundle of the clusterset, PEM.
	Bundle []byte
	// Created says that the root did not exist before; Origin where it is kept.
	Created bool
	Origin  string
}

// IssuerFiles names what the user brings, if anything.
type IssuerFiles struct {
	RootCert, RootKey, Passphrase string // an existing root: certificate, encrypted key, file with the passphrase
	Chain, Key, Bundle            string // an existing intermediate: chain, key, trust bundle
}

// OpenIssuer takes what files name, else the clusterset's own root, which is made
// where there is none.
func OpenIssuer(store Store, files IssuerFiles, domain trust.Domain) (*Issuer, error) {
	switch {
	case files.Chain != "" || files.Key != "":
		return givenIssuer(files)
	case files.RootCert != "" || files.RootKey != "":
		return rootIssuer(files, domain)
	}
	root, made, err := store.Root(domain)
	if err != nil {
		return nil, err
	}
	return &Issuer{root: root, Bundle: root.CertificatePEM(), Created: made, Origin: store.Dir}, nil
}

func givenIssuer(files IssuerFiles) (*Issuer, error) {
	if files.Chain == "" || files.Key == "" || files.Bundle == "" {
		return nil, errors.New("an existing intermediate needs its chain, its key and the trust bundle")
	}
	var given install.CA
	for path, to := range map[string]*[]byte{files.Chain: &given.Chain, files.Key: &given.Key, files.Bundle: &given.Bundle} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read intermediate: %w", err)
		}
		*to = data
	}
	return &Issuer{given: &given, Bundle: given.Bundle, Origin: files.Chain}, nil
}

func rootIssuer(files IssuerFiles, domain trust.Domain) (*Issuer, error) {
	if files.RootCert == "" || files.RootKey == "" || files.Passphrase == "" {
		return nil, errors.New("an existing root needs its certificate, its encrypted key and the file with the passphrase")
	}
	var parts [3][]byte
	for i, path := range []string{files.RootCert, files.RootKey, files.Passphrase} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read root: %w", err)
		}
		parts[i] = data
	}
	root, err := ca.LoadRoot(domain, parts[0], parts[1], bytes.TrimSpace(parts[2]))
	if err != nil {
		return nil, err
	}
	return &Issuer{root: root, Bundle: root.CertificatePEM(), Origin: files.RootCert}, nil
}

// Single reports whether the issuer has one cluster's intermediate only.
func (i *Issuer) Single() bool { return i.given != nil }

// Intermediate returns what cluster signs with, proved: what is already there if
// it is of this clusterset, else a new one.
func (i *Issuer) Intermediate(cluster string, domain trust.Domain, have *install.CA) (*install.CA, error) {
	if i.given != nil {
		return i.given, prove(cluster, domain, i.given)
	}
	if have != nil {
		same, err := sameRoots(domain, have.Bundle, i.Bundle)
		if err != nil {
			return nil, fmt.Errorf("cluster %s has an intermediate that cannot be used: %w", cluster, err)
		}
		if !same {
			return nil, fmt.Errorf("%w: cluster %s trusts another root than %s", ErrOtherRoot, cluster, i.Origin)
		}
		if prove(cluster, domain, have) == nil {
			return have, nil
		}
	}
	chain, key, err := i.root.Intermediate(cluster)
	if err != nil {
		return nil, err
	}
	return &install.CA{Chain: chain, Key: key, Bundle: i.Bundle}, nil
}

// ErrOtherRoot says that a cluster is of another clusterset.
var ErrOtherRoot = errors.New("other root")

func prove(cluster string, domain trust.Domain, material *install.CA) error {
	_, err := ca.New(ca.Options{Cluster: cluster, Domain: domain, ChainPEM: material.Chain, KeyPEM: material.Key, BundlePEM: material.Bundle})
	return err
}

func sameRoots(domain trust.Domain, a, b []byte) (bool, error) {
	x, err := trust.ParseBundle(domain, a)
	if err != nil {
		return false, err
	}
	y, err := trust.ParseBundle(domain, b)
	if err != nil {
		return false, err
	}
	return x.Hash() == y.Hash(), nil
}
