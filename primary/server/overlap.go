package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
)

// overlapInterval is how often the cluster's addresses are compared.
const overlapInterval = 5 * time.Second

// overlap watches whether the range of synthetic addresses is of another use in
// the own network: then one address would mean two things.
type overlap struct {
	cluster   federation.ClusterName
	synthetic netip.Prefix
	latest    func() *federation.Snapshot // may return nil
	log       *slog.Logger

	seen  *federation.Snapshot   // Run's own: the one compared last
	found atomic.Pointer[string] // nil or "": none
}

// Run looks until ctx ends. It logs what begins and what ends.
func (o *overlap) Run(ctx context.Context) error {
	tick := time.NewTicker(overlapInterval)
	defer tick.Stop()
	for {
		o.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look compares what was not compared yet: a snapshot does not change.
func (o *overlap) look() {
	s := o.latest()
	if s == nil || s == o.seen {
		return
	}
	o.seen = s
	o.note(syntheticOverlap(s, o.cluster, o.synthetic))
}

func (o *overlap) note(message string) {
	switch was := o.Message(); {
	case message == was:
	case message == "":
		o.log.Info("the range of synthetic addresses is of no other use any more", "range", o.synthetic)
	default:
		o.log.Error("the range of synthetic addresses is of another use", "range", o.synthetic, "message", message)
	}
	o.found.Store(&message)
}

// Message says what is wrong and what to do, or "".
func (o *overlap) Message() string {
	if m := o.found.Load(); m != nil {
		return *m
	}
	return ""
}

// problem is Message as the debug view shows it, and so `isthmus status`.
func (o *overlap) problem() []problemView {
	message := o.Message()
	if message == "" {
		return nil
	}
	return []problemView{{Cluster: string(o.cluster), Kind: "Cluster", Name: string(o.cluster), Reason: "SyntheticRangeOverlaps", Message: message}}
}

// syntheticOverlap names the first pod, node or service address of cluster's
// network that r holds too.
func syntheticOverlap(s *federation.Snapshot, cluster federation.ClusterName, r netip.Prefix) string {
	own := s.Cluster(cluster)
	if own == nil {
		return ""
	}
	for _, p := range own.Inside {
		if p.Overlaps(r) {
			return overlapMessage(r, fmt.Sprintf("%s, where its pods and nodes are", p))
		}
	}
	for svc := range s.Services() {
		for _, addr := range svc.VIPsIn(cluster) {
			if r.Contains(addr) {
				return overlapMessage(r, fmt.Sprintf("%s, the address of service %s", addr, svc.Key.Hostname()))
			}
		}
		for i := range svc.Endpoints {
			if e := &svc.Endpoints[i]; e.Network == own.Network && r.Contains(e.Addr) {
				return overlapMessage(r, fmt.Sprintf("%s, the address of a pod of service %s in cluster %s", e.Addr, svc.Key.Hostname(), e.Cluster))
			}
		}
	}
	return ""
}

func overlapMessage(r netip.Prefix, what string) string {
	return fmt.Sprintf("synthetic addresses (%s) and this network's own overlap at %s: callers of a headless service may reach the wrong one; install with another syntheticRange", r, what)
}
