package controllers

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// When a gateway counts as silent and as back. (design.md, Discovery) A probe
// that has had no answer for probeTimeout has missed, and the next follows at once,
// so that a gateway that never answers is silent after 1.8 s.
const (
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 600 * time.Millisecond // of TCP and TLS together
	missesToFail  = 3
	healthyToBack = 10 * time.Second
)

// target is one gateway address and the cluster that must answer there.
type target struct {
	cluster federation.ClusterName
	addr    netip.AddrPort
}

// probeState is what is known of a target. The zero state counts as answering.
type probeState struct {
	Silent  bool
	Since   time.Time // when Silent last changed; zero if it never did
	Message string    // of the last miss, while silent

	known  bool // a probe has ended
	misses int  // in a row
	good   time.Time
}

// next returns the state after a probe that ended at now with err.
func (p probeState) next(err error, now time.Time) probeState {
	p.known = true
	if err != nil {
		p.misses++
		p.good = time.Time{}
		if p.Silent {
			p.Message = err.Error()
		} else if p.misses >= missesToFail {
			p.Silent, p.Since, p.Message = true, now, err.Error()
		}
		return p
	}
	p.misses = 0
	if p.good.IsZero() {
		p.good = now
	}
	if p.Silent && now.Sub(p.good) >= healthyToBack {
		p.Silent, p.Since, p.Message = false, now, ""
	}
	return p
}

// starved reports whether who was to go on at due, and did at now, had no
// processor meanwhile: what it did not hear then says nothing of a gateway.
func starved(due, now time.Time) bool { return now.Sub(due) > probeInterval }

// phase is when in the interval a target is probed, so that not all are at once.
func (t target) phase() time.Duration {
	sum := sha256.Sum256([]byte(string(t.cluster) + "/" + t.addr.String()))
	return probeInterval * time.Duration(binary.BigEndian.Uint16(sum[:])) >> 16
}

// probeGateway makes one handshake with the gateway at t, as a proxy would,
// under the name that the gateway itself answers. The error says in a few words
// what went wrong.
func probeGateway(ctx context.Context, source trust.Source, domain trust.Domain, t target) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return errors.New(brief(err))
	}
	defer func() { _ = conn.Close() }()
	id, err := trust.NewID(domain, api.SystemNamespace, api.EastWestName)
	if err != nil {
		return err
	}
	config := trust.ClientTLS(source, api.ProbeName, []string{api.ALPN}, func(peer trust.Peer) error {
		if peer.ID != id || peer.Cluster != string(t.cluster) {
			return fmt.Errorf("it is no gateway of cluster %s", t.cluster)
		}
		return nil
	})
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("tls handshake: %s", brief(err))
	}
	return nil
}

// brief leaves out of a network error what differs from one try to the next,
// such as ports, so that a status does not change with each.
func brief(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer in " + probeTimeout.String()
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}
