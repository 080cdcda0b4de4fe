package ca_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// greet makes one handshake in memory between two workloads, both of which
// verify the other.
func greet(client, server trust.Source, name string) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for _, end := range []net.Conn{near, far} {
		if err := end.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
	}
	answer := make(chan error, 1)
	go func() {
		conn := tls.Server(far, trust.ServerTLS(server, []string{"isthmus"}, true, nil))
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x")) // the client learns that it was let in
		}
		answer <- err
	}()
	conn := tls.Client(near, trust.ClientTLS(client, name, []string{"isthmus"}, nil))
	_, err := conn.Read(make([]byte, 1))
	if serverErr := <-answer; serverErr != nil {
		return fmt.Errorf("server: %w", serverErr)
	}
	return err
}

// offline is a proxy that keeps the identity and the roots that it had.
type offline struct {
	svid   trust.SVID
	bundle trust.Bundle
}

func (o offline) SVID() (trust.SVID, error)     { return o.svid, nil }
func (o offline) Bundle() (trust.Bundle, error) { return o.bundle, nil }

// The root is replaced under calls both ways between two clusters: trust both,
// sign with the new one, go back, go on, drop the old one. No handshake fails,
// though the clusters take each step one after the other. A proxy that was offline
// meanwhile is on its own until it has the new root.
func TestRootRotation(t *testing.T) {
	t.Parallel()
	first, second := newRoot(t, ca.RootOptions{}), newRoot(t, ca.RootOptions{})
	both := append(first.CertificatePEM(), second.CertificatePEM()...)
	clusters := []string{"east", "west"}
	const trustBoth, signNew, dropOld = 0, 1, 2
	authorities, sources, materials := map[string]*ca.Authority{}, map[string]trust.Source{}, map[string][3]ca.Material{}
	for _, cluster := range clusters {
		one, two := options(t, first, cluster), options(t, second, cluster)
		materials[cluster] = [3]ca.Material{
			trustBoth: {Chain: one.ChainPEM, Key: one.KeyPEM, Bundle: both},
			signNew:   {Chain: two.ChainPEM, Key: two.KeyPEM, Bundle: both},
			dropOld:   {Chain: two.ChainPEM, Key: two.KeyPEM, Bundle: second.CertificatePEM()},
		}
		authorities[cluster] = newAuthority(t, one)
		sources[cluster] = authorities[cluster].Source(identity(t, "spiffe://mesh.test/ns/shop/sa/"+cluster))
	}
	var old offline
	var err error
	if old.svid, err = authorities["east"].Issue(identity(t, "spiffe://mesh.test/ns/shop/sa/old")); err != nil {
		t.Fatal(err)
	}
	old.bundle = authorities["east"].Bundle()

	var calls atomic.Int64
	done := make(chan struct{})
	var traffic sync.WaitGroup
	for n := range clusters {
		traffic.Go(func() {
			from, to := clusters[n], clusters[1-n]
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := greet(sources[from], sources[to], trust.ClusterDNS(to)); err != nil {
					t.Errorf("%s calls %s: %v", from, to, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	step := func(stage int) {
		for _, cluster := range clusters {
			if err := authorities[cluster].Replace(materials[cluster][stage]); err != nil {
				t.Fatal(err)
			}
			awaitMore(t, &calls, 20) // with the clusters at different stages
		}
	}
	believed := func(proxy offline) error { return greet(sources["east"], proxy, "") }
	step(trustBoth)
	if err := greet(old, sources["west"], trust.ClusterDNS("west")); err != nil {
		t.Errorf("a proxy that was offline while the new root was spread: %v", err)
	}
	step(signNew)
	if err := believed(old); err == nil {
		t.Error("a proxy without the new root believed a peer under it")
	}
	step(trustBoth) // somebody rolls back
	if err := believed(old); err != nil {
		t.Errorf("after rolling back, the offline proxy: %v", err)
	}
	step(signNew)
	old.bundle = authorities["east"].Bundle() // it came back and has the roots, but not yet a new certificate
	if err := believed(old); err != nil {
		t.Errorf("an old certificate while both are trusted: %v", err)
	}
	step(dropOld)
	if err := believed(old); err == nil {
		t.Error("a certificate of the dropped root is still believed")
	}
	close(done)
	traffic.Wait()
}

// awaitMore waits until n more calls were made, or until they no longer are.
func awaitMore(t *testing.T, calls *atomic.Int64, n int64) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := calls.Load() + n; calls.Load() < until && !t.Failed(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no more calls")
		}
	}
}
