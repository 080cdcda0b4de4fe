// Package identity holds the identity of one workload: a key that never leaves
// it, the SVID that isthmusd signed for it, and the roots to trust. It renews by
// itself, survives a restart without the control plane, and serves what it has
// until that expires.
package identity

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/trust"
)

// ErrExpired is what SVID returns when the certificate ended and no new one came.
// Then the workload fails closed.
var ErrExpired = errors.New("svid expired")

// Options configures an Identity.
type Options struct {
	Discovery      string       // required; host:port of isthmusd
	Cluster        string       // required; the cluster in which that isthmusd runs
	Own            string       // the workload's own cluster; "" means Cluster
	TokenPath      string       // required; the projected service-account token
	BundlePath     string       // required; the roots, as PEM
	Dir            string       // required; where key, chain and roots are kept, 0700
	Domain         trust.Domain // required
	ControlPlaneID trust.ID     // required; who isthmusd must be
	ID             trust.ID     // where set, an SVID of another identity is refused

	// Dial opens connections to isthmusd; nil means an ordinary dialler. A sidecar
	// gives one that marks its sockets.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Poll time.Duration // how often the roots' file is looked at; 0 means 5s
	Log  *slog.Logger  // nil discards
}

// Identity implements trust.Source. Its methods may be called at any time by any
// goroutine and do not wait.
type Identity struct {
	opts  Options
	log   *slog.Logger
	conn  *grpc.ClientConn
	sign  func(ctx context.Context, csr []byte) ([]*x509.Certificate, error)
	ready chan struct{}
	wake  chan struct{} // holds one: renew now

	mu       sync.Mutex
	svid     trust.SVID
	bundle   trust.Bundle
	changed  chan struct{} // closed at each change of svid or bundle
	status   Status
	absent   bool // a dial found nobody, and none was connected since
	useToken bool // the last attempt with the SVID failed: try without
}

// Status is what an operator may see; it holds no secret.
type Status struct {
	ID                  string `json:"id"`
	Cluster             string `json:"cluster"`
	Serial              string `json:"serial"`
	NotBefore, NotAfter time.Time
	Bundle              string `json:"bundle"`                 // hash of the roots
	RenewalError        string `json:"renewalError,omitempty"` // of the last attempt; "" when it worked
	BundleError         string `json:"bundleError,omitempty"`  // why the roots' file is not used; then the last good ones are
}

// New checks opts and takes what an earlier process left in Dir. It dials nothing.
func New(opts Options) (*Identity, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	opts.Own = cmp.Or(opts.Own, opts.Cluster)
	opts.Poll = cmp.Or(opts.Poll, 5*time.Second)
	i := &Identity{opts: opts, log: opts.Log, ready: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{})}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	conn, err := i.dial()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	i.conn, i.sign = conn, i.signRemote
	i.recall()
	return i, nil
}

func (o Options) check() error {
	for name, value := range map[string]string{
		"Discovery": o.Discovery, "TokenPath": o.TokenPath, "BundlePath": o.BundlePath, "Dir": o.Dir,
	} {
		if value == "" {
			return fmt.Errorf("%s is not set", name)
		}
	}
	if !trust.ValidCluster(o.Cluster) || o.Own != "" && !trust.ValidCluster(o.Own) {
		return fmt.Errorf("cluster name %q or %q is not a dns label", o.Cluster, o.Own)
	}
	if o.Domain.IsZero() || o.ControlPlaneID.IsZero() {
		return errors.New("no trust domain or no identity of the control plane")
	}
	return nil
}

// SVID implements trust.Source. It returns trust.ErrNoSVID before the first one,
// and ErrExpired after the last one ended.
func (i *Identity) SVID() (trust.SVID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.svid.IsZero() {
		return trust.SVID{}, trust.ErrNoSVID
	}
	if time.Now().After(i.svid.NotAfter) {
		return trust.SVID{}, fmt.Errorf("%w at %s", ErrExpired, i.svid.NotAfter.UTC().Format(time.RFC3339))
	}
	return i.svid, nil
}

// Bundle implements trust.Source.
func (i *Identity) Bundle() (trust.Bundle, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.bundle.IsZero() {
		return trust.Bundle{}, fmt.Errorf("no roots to trust yet: %s", i.status.BundleError)
	}
	return i.bundle, nil
}

// Ready is closed as soon as there is an SVID and a bundle to verify it with.
func (i *Identity) Ready() <-chan struct{} { return i.ready }

// Changed returns a channel that is closed at the next change of SVID or bundle.
// Take it before reading them, and again after it closed.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// Status returns the state of the moment.
func (i *Identity) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	status := i.status
	status.Bundle = i.bundle.Hash()
	if !i.svid.IsZero() {
		status.ID, status.Cluster = i.svid.ID.String(), i.svid.Cluster
		status.Serial = i.svid.Certificate.Leaf.SerialNumber.Text(16)
		status.NotBefore, status.NotAfter = i.svid.NotBefore, i.svid.NotAfter
	}
	return status
}

// Run obtains and renews until ctx ends, and closes the connection then.
func (i *Identity) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { i.followBundle(ctx) })
	i.renew(ctx)
	parts.Wait()
	return i.conn.Close()
}

// takeSVID makes svid the current one after it has proved that peers with our
// roots will accept it.
func (i *Identity) takeSVID(svid trust.SVID) error {
	chain, err := svid.Chain()
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, err := trust.VerifyPeer(chain, i.bundle, time.Now()); err != nil {
		return err
	}
	if !i.opts.ID.IsZero() && svid.ID != i.opts.ID {
		return fmt.Errorf("svid is for %s, this is %s", svid.ID, i.opts.ID)
	}
	if svid.Cluster != i.opts.Own {
		return fmt.Errorf("svid is for cluster %q, this is %q", svid.Cluster, i.opts.Own)
	}
	i.svid = svid
	i.announce()
	return nil
}

// takeBundle makes bundle the current one and reports whether it is another. An
// SVID that it no longer verifies is renewed at once.
func (i *Identity) takeBundle(bundle trust.Bundle) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.status.BundleError = ""; i.bundle.Hash() == bundle.Hash() {
		return false
	}
	i.bundle = bundle
	i.announce()
	chain, err := i.svid.Chain()
	if err == nil {
		_, err = trust.VerifyPeer(chain, bundle, time.Now())
	}
	if err != nil {
		select {
		case i.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// announce wakes who waits for changes. The lock is held.
func (i *Identity) announce() {
	close(i.changed)
	i.changed = make(chan struct{})
	if i.svid.IsZero() || i.bundle.IsZero() {
		return
	}
	select {
	case <-i.ready:
	default:
		close(i.ready)
	}
}
