package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

func TestBundleIsASet(t *testing.T) {
	t.Parallel()
	one, two := newRoot(t), newRoot(t)
	want := bundle(t, one, two)
	for name, certs := range map[string][]*x509.Certificate{
		"shuffled": {two.cert, one.cert}, "repeated": {one.cert, two.cert, one.cert},
	} {
		got, err := trust.ParseBundle(want.Domain(), trust.EncodeCertificates(certs))
		if err != nil {
			t.Fatal(err)
		}
		if got.Hash() != want.Hash() || !bytes.Equal(got.PEM(), want.PEM()) || len(got.Roots()) != 2 {
			t.Errorf("%s: another bundle", name)
		}
	}
	joined, err := bundle(t, one).With(bundle(t, two))
	if err != nil || joined.Hash() != want.Hash() {
		t.Errorf("joined: %s, %v", joined.Hash(), err)
	}
	if same, err := (trust.Bundle{}).With(want); err != nil || same.Hash() != want.Hash() {
		t.Errorf("joined to none: %v", err)
	}
	if bundle(t, one).Hash() == want.Hash() || bundle(t, one).Hash() == (trust.Bundle{}).Hash() {
		t.Error("different bundles with one hash")
	}
	other, err := trust.NewBundle(domain(t, "other.test"), []*x509.Certificate{two.cert})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := want.With(other); !errors.Is(err, trust.ErrInvalidBundle) {
		t.Errorf("roots of two trust domains: %v", err)
	}
	roots := want.Roots()
	slices.Reverse(roots)
	roots[0] = nil
	if want.Roots()[0] == nil || want.Roots()[1] == nil {
		t.Error("a caller can change the bundle")
	}
}

func TestParseBundleRefuses(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	one := string(bundle(t, root).PEM())
	two := string(bundle(t, root, newRoot(t)).PEM())
	begin := strings.LastIndex(two, "-----BEGIN")
	leaf := chain(t, leafTemplate(web), root)
	key, err := trust.EncodeKey(root.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, pem, want string }{
		{"empty", "", "no certificate"},
		{"white space", " \n\t", "no certificate"},
		{"garbage", "hello", "text outside"},
		{"truncated", one[:len(one)/2], "cut short"},
		// The standard decoder gives one certificate and no error for these three.
		{"second one truncated", two[:begin+200], "cut short"},
		{"second one's header only", two[:begin+28], "cut short"},
		{"first one truncated", two[:200] + "\n" + one, "cut short"},
		{"without its last line", strings.TrimSuffix(one, "-----END CERTIFICATE-----\n"), "cut short"},
		{"text after", one + "and more", "text outside"},
		{"text before", "root:\n" + one, "text outside"},
		{"a key in it", one + string(key), `"PRIVATE KEY"`},
		{"trusted certificate", strings.ReplaceAll(one, "CERTIFICATE", "TRUSTED CERTIFICATE"), "TRUSTED"},
		{"headers", strings.Replace(one, "-----\n", "-----\nA: b\n\n", 1), "headers"},
		{"not a certificate", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 1"},
		{"trailing der", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(bytes.Clone(root.cert.Raw), 0)})), "certificate 1"},
		{"a leaf", string(trust.EncodeCertificates(leaf)), "not a ca"},
		{"too many", strings.Repeat(one, trust.MaxCertificates+1), "more than"},
		{"too large", one + strings.Repeat(" ", trust.MaxPEMSize), "larger"},
	} {
		got, err := trust.ParseBundle(domain(t, "mesh.test"), []byte(test.pem))
		if !errors.Is(err, trust.ErrInvalidBundle) || !strings.Contains(err.Error(), test.want) || !got.IsZero() {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
	if _, err := trust.ParseBundle(trust.Domain{}, []byte(one)); !errors.Is(err, trust.ErrInvalidBundle) {
		t.Errorf("no trust domain: %v", err)
	}
}

func TestBundleCheckTime(t *testing.T) {
	t.Parallel()
	b := bundle(t, newRoot(t))
	for at, good := range map[time.Duration]bool{0: true, 2 * time.Hour: false, -2 * time.Hour: false} {
		if err := b.CheckTime(time.Now().Add(at)); (err == nil) != good {
			t.Errorf("in %s: %v", at, err)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	root := newRoot(f)
	good := bundle(f, root, newRoot(f)).PEM()
	f.Add(good)
	f.Add(good[:len(good)-100])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN -----BEGIN CERTIFICATE-----"))
	d := domain(f, "mesh.test")
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := trust.ParseBundle(d, data)
		if err != nil {
			if !errors.Is(err, trust.ErrInvalidBundle) {
				t.Errorf("error %v", err)
			}
			return
		}
		// Every header counted, and what is written reads back as the same.
		if headers := bytes.Count(data, []byte("-----BEGIN ")); headers < len(b.Roots()) || len(b.Roots()) == 0 {
			t.Errorf("%d roots of %d headers", len(b.Roots()), headers)
		}
		again, err := trust.ParseBundle(d, b.PEM())
		if err != nil || again.Hash() != b.Hash() {
			t.Errorf("read back: %v", err)
		}
	})
}
