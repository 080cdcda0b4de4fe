package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

const (
	web  = "spiffe://mesh.test/ns/shop/sa/web"
	self = "spiffe://mesh.test/ns/isthmus-system/sa/isthmusd"
)

func parseID(t testing.TB, s string) trust.ID {
	t.Helper()
	id, err := trust.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// reviewer accepts every token as web's; the real one is in primary/review.
type reviewer struct{ calls atomic.Int64 }

func (r *reviewer) Review(_ context.Context, cluster, _ string) (csr.Reviewed, error) {
	r.calls.Add(1)
	id, err := trust.ParseID(web)
	return csr.Reviewed{ID: id, Cluster: cluster, Namespace: "shop", Pod: "web-1", PodUID: "1"}, err
}

// control is a control plane of cluster east with nothing but its certificate
// service, which can go away and come back at its address.
type control struct {
	root      *ca.Root
	authority *ca.Authority
	reviewer  *reviewer
	address   string
	id        string // whom it claims to be
	server    *grpc.Server
}

func newRoot(t testing.TB) *ca.Root {
	t.Helper()
	domain, err := trust.ParseDomain("mesh.test")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func material(t testing.TB, root *ca.Root, bundle []byte) ca.Material {
	t.Helper()
	chain, key, err := root.Intermediate("east")
	if err != nil {
		t.Fatal(err)
	}
	return ca.Material{Chain: chain, Key: key, Bundle: bundle}
}

func newControl(t testing.TB, lifetime time.Duration) *control {
	t.Helper()
	c := &control{root: newRoot(t), reviewer: &reviewer{}, address: "127.0.0.1:0", id: self}
	m := material(t, c.root, c.root.CertificatePEM())
	var err error
	c.authority, err = ca.New(ca.Options{
		Cluster: "east", Domain: c.root.Domain(), ChainPEM: m.Chain, KeyPEM: m.Key, BundlePEM: m.Bundle, Lifetime: lifetime,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *control) start(t testing.TB) {
	t.Helper()
	source := c.authority.Source(parseID(t, c.id))
	c.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(trust.ServerTLS(source, nil, false, nil))))
	csr.NewServer(csr.Options{Authority: c.authority, Reviewer: c.reviewer}).Register(c.server)
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	c.address = listener.Addr().String()
	go c.server.Serve(listener)
}

func (c *control) stop() {
	if c.server != nil {
		c.server.Stop()
	}
}

func (c *control) options(t testing.TB) Options {
	t.Helper()
	dir := t.TempDir()
	payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"aud":"isthmus.dev/east","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	opts := Options{
		Discovery: c.address, Cluster: "east", Domain: c.root.Domain(), ControlPlaneID: parseID(t, self),
		TokenPath: filepath.Join(dir, "token"), BundlePath: filepath.Join(dir, "bundle.pem"), Dir: filepath.Join(dir, "data"),
		ID: parseID(t, web), Poll: 5 * time.Millisecond,
	}
	put(t, opts.TokenPath, []byte("YQ."+payload+".YQ\n"))
	put(t, opts.BundlePath, c.root.CertificatePEM())
	return opts
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// run runs an identity until the test ends, or until the function that it returns is called.
func run(t testing.TB, opts Options) (*Identity, func()) {
	t.Helper()
	i, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return i, stop
}

func ready(t testing.TB, i *Identity) trust.SVID {
	t.Helper()
	select {
	case <-i.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("not ready: %+v", i.Status())
	}
	svid, err := i.SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

// await waits for a condition, looking again at each change and each few milliseconds.
func await(t testing.TB, i *Identity, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not seen; %+v", what, i.Status())
		}
	}
}

func TestObtain(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	c.start(t)
	opts := c.options(t)
	i, _ := run(t, opts)
	svid := ready(t, i)
	if svid.ID.String() != web || svid.Cluster != "east" {
		t.Errorf("identity %s of cluster %q", svid.ID, svid.Cluster)
	}
	var info os.FileInfo
	await(t, i, "kept", func() bool { // just after it is ready
		var err error
		info, err = os.Stat(filepath.Join(opts.Dir, identityFile))
		return err == nil
	})
	if info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
	if s := i.Status(); s.ID != web || s.Bundle == "" || s.RenewalError != "" {
		t.Errorf("status %+v", s)
	}
}

// Restarted while the control plane is down, a workload serves with what it kept,
// and its roots too; and it renews on its SVID alone when that is due.
func TestKeptOverARestart(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	c.start(t)
	opts := c.options(t)
	first, stop := run(t, opts)
	want := ready(t, first)
	await(t, first, "kept", func() bool {
		kept, err := readIdentity(filepath.Join(opts.Dir, identityFile))
		return err == nil && kept.NotAfter.Equal(want.NotAfter)
	})
	stop()
	c.stop()
	if err := os.Remove(opts.BundlePath); err != nil {
		t.Fatal(err)
	}
	second, stop := run(t, opts)
	if got := ready(t, second); !got.Certificate.Leaf.Equal(want.Certificate.Leaf) {
		t.Error("another certificate after the restart")
	}
	if _, err := second.Bundle(); err != nil {
		t.Error(err)
	}
	stop()
	for name, spoil := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)-100] },
		"empty":     func([]byte) []byte { return nil },
		"no chain":  func(b []byte) []byte { return b[:strings.Index(string(b), "-----BEGIN CERTIFICATE")] },
	} {
		path := filepath.Join(opts.Dir, identityFile)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, spoil(content))
		third, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := third.SVID(); err == nil {
			t.Errorf("%s: taken", name)
		}
		third.conn.Close()
		put(t, path, content)
	}
	other := opts
	other.ID = parseID(t, "spiffe://mesh.test/ns/shop/sa/other")
	stranger, err := New(other)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.conn.Close()
	if _, err := stranger.SVID(); err == nil {
		t.Error("another workload's identity was taken")
	}
}

// The control plane comes late: the workload keeps asking, and comes up by itself.
func TestControlPlaneComesLate(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	c.start(t)
	c.stop()
	i, _ := run(t, c.options(t))
	await(t, i, "failed attempt", func() bool { return i.Status().RenewalError != "" })
	if _, err := i.SVID(); err == nil {
		t.Fatal("an identity from nowhere")
	}
	c.start(t)
	ready(t, i)
}

// Short-lived certificates are renewed over and over without a gap, on the SVID
// after the first; when the control plane is away for longer than they live, the
// workload fails closed, and recovers by itself.
func TestRenewalExpiryRecovery(t *testing.T) {
	t.Parallel()
	c := newControl(t, 6*time.Second)
	c.start(t)
	i, _ := run(t, c.options(t))
	first := ready(t, i)
	last := first
	for range 2 {
		await(t, i, "renewal", func() bool {
			svid, err := i.SVID()
			if err != nil {
				t.Fatalf("a gap: %v", err)
			}
			renewed := !svid.Certificate.Leaf.Equal(last.Certificate.Leaf)
			last = svid
			return renewed
		})
	}
	if key, ok := last.Certificate.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Equal(first.Certificate.PrivateKey) {
		t.Error("renewed with the same key")
	}
	c.stop()
	await(t, i, "expiry", func() bool { _, err := i.SVID(); return err != nil })
	c.start(t)
	await(t, i, "recovery", func() bool { _, err := i.SVID(); return err == nil })
}

// A control plane that is somebody else of the same root, or of another root, is
// told nothing: no token leaves.
func TestWrongControlPlane(t *testing.T) {
	t.Parallel()
	impostor := newControl(t, 0)
	impostor.id = "spiffe://mesh.test/ns/shop/sa/impostor"
	impostor.start(t)
	foreign := newControl(t, 0)
	foreign.start(t)
	opts := foreign.options(t)
	put(t, opts.BundlePath, impostor.root.CertificatePEM())
	for name, test := range map[string]struct {
		opts    Options
		control *control
		want    string
	}{
		"not isthmusd": {impostor.options(t), impostor, "not an identity expected"},
		"another root": {opts, foreign, "unknown authority"},
	} {
		i, stop := run(t, test.opts)
		await(t, i, name, func() bool { return strings.Contains(i.Status().RenewalError, test.want) })
		stop()
		if test.control.reviewer.calls.Load() != 0 {
			t.Errorf("%s: it was given the token", name)
		}
	}
}

// Damaged roots change nothing and are named; good ones are taken within a poll,
// and an SVID that the new ones do not verify is replaced at once, by the token.
func TestRootsRotate(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	c.start(t)
	opts := c.options(t)
	i, _ := run(t, opts)
	before := ready(t, i)
	one := i.Status().Bundle
	next := newRoot(t)
	both := append(c.root.CertificatePEM(), next.CertificatePEM()...)
	for name, content := range map[string][]byte{
		"truncated": both[:len(both)-60], "empty": nil, "garbage": []byte("hello"),
	} {
		put(t, opts.BundlePath, content)
		await(t, i, name, func() bool { return i.Status().BundleError != "" })
		if i.Status().Bundle != one {
			t.Errorf("%s: the roots changed", name)
		}
		put(t, opts.BundlePath, c.root.CertificatePEM())
		await(t, i, name, func() bool { return i.Status().BundleError == "" })
	}
	put(t, opts.BundlePath, both) // trust both
	await(t, i, "both roots", func() bool { return i.Status().Bundle != one })
	if err := c.authority.Replace(material(t, next, both)); err != nil { // sign with the new one
		t.Fatal(err)
	}
	if svid, err := i.SVID(); err != nil || !svid.Certificate.Leaf.Equal(before.Certificate.Leaf) {
		t.Error("the identity changed with the roots")
	}
	if err := c.authority.Replace(material(t, next, next.CertificatePEM())); err != nil { // drop the old one
		t.Fatal(err)
	}
	put(t, opts.BundlePath, next.CertificatePEM())
	await(t, i, "an identity of the new root", func() bool {
		svid, err := i.SVID()
		if err != nil {
			return false
		}
		chain, err := svid.Chain()
		if err != nil {
			t.Fatal(err)
		}
		_, err = trust.VerifyPeer(chain, c.authority.Bundle(), time.Now())
		return err == nil
	})
}

// In a day's life, under a fake clock: renewal comes near half of it, and while
// the authority fails, the old identity serves to its end and not beyond.
func TestRenewalSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t, 0) // made at the bubble's time
		i := &Identity{
			opts: c.options(t), log: discard(), ready: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}),
		}
		i.opts.Own = "east"
		var down atomic.Bool
		var signed []time.Time
		i.sign = func(_ context.Context, der []byte) ([]*x509.Certificate, error) {
			if down.Load() {
				return nil, context.DeadlineExceeded
			}
			request, err := x509.ParseCertificateRequest(der)
			if err != nil {
				return nil, err
			}
			signed = append(signed, time.Now())
			return c.authority.Sign(request.PublicKey, parseID(t, web))
		}
		i.readBundle()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { i.renew(ctx); close(ended) }()
		time.Sleep(73 * time.Hour)
		synctest.Wait()
		if len(signed) < 6 || len(signed) > 7 {
			t.Errorf("signed %d times in 73 hours of 24-hour certificates", len(signed))
		}
		for n := range signed[1:] {
			if gap := signed[n+1].Sub(signed[n]); gap < 10*time.Hour+45*time.Minute || gap > 13*time.Hour+15*time.Minute {
				t.Errorf("renewed after %s", gap)
			}
		}
		down.Store(true)
		svid, err := i.SVID()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(svid.NotAfter) - time.Second)
		if _, err := i.SVID(); err != nil {
			t.Errorf("a second before its end: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := i.SVID(); err == nil {
			t.Error("serves after its end")
		}
		down.Store(false)
		time.Sleep(mostBackoff)
		if _, err := i.SVID(); err != nil {
			t.Errorf("a minute after the authority came back: %v", err)
		}
		cancel()
		<-ended
	})
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	for chance, want := range map[float64]time.Duration{0: 648 * time.Minute, 0.5: 12 * time.Hour, 1: 792 * time.Minute} {
		if got := renewAt(start, start.Add(24*time.Hour), chance).Sub(start); got != want {
			t.Errorf("chance %v: after %s, want %s", chance, got, want)
		}
	}
	for failures := 1; failures < 100; failures++ {
		if got := retryAfter(failures, 0.999); got < 500*time.Millisecond || got > mostBackoff {
			t.Errorf("failure %d: waits %s", failures, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := newControl(t, 0).options(t)
	for name, change := range map[string]func(*Options){
		"no discovery": func(o *Options) { o.Discovery = "" }, "no cluster": func(o *Options) { o.Cluster = "" },
		"no token path": func(o *Options) { o.TokenPath = "" }, "no directory": func(o *Options) { o.Dir = "" },
		"no domain": func(o *Options) { o.Domain = trust.Domain{} }, "no control plane": func(o *Options) { o.ControlPlaneID = trust.ID{} },
		"bad own cluster": func(o *Options) { o.Own = "a.b" },
	} {
		opts := good
		change(&opts)
		if _, err := New(opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// An authority whose clock is wrong, or one that signs for somebody else, gives
// nothing that is taken; the reason is to be seen.
func TestSignedWrongly(t *testing.T) {
	t.Parallel()
	c := newControl(t, 0)
	m := material(t, c.root, c.root.CertificatePEM())
	ahead, err := ca.New(ca.Options{
		Cluster: "east", Domain: c.root.Domain(), ChainPEM: m.Chain, KeyPEM: m.Key, BundlePEM: m.Bundle,
		Now: func() time.Time { return time.Now().Add(48 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := c.root.Intermediate("west")
	if err != nil {
		t.Fatal(err)
	}
	west, err := ca.New(ca.Options{Cluster: "west", Domain: c.root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: m.Bundle})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, id, want string
		authority      *ca.Authority
	}{
		{"clock two days ahead", web, "not yet valid", ahead},
		{"another cluster", web, `cluster "west"`, west},
		{"another identity", self, "this is " + web, c.authority},
	} {
		i, err := New(c.options(t))
		if err != nil {
			t.Fatal(err)
		}
		i.sign = func(_ context.Context, der []byte) ([]*x509.Certificate, error) {
			request, err := x509.ParseCertificateRequest(der)
			if err != nil {
				return nil, err
			}
			return test.authority.Sign(request.PublicKey, parseID(t, test.id))
		}
		if err := i.obtain(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
		if _, err := i.SVID(); err == nil {
			t.Errorf("%s: taken", test.name)
		}
		i.conn.Close()
	}
}
