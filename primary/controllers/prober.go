package controllers

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Prober asks every gateway of another network whether it answers. It sees from
// one place only, so its word demotes a gateway and never removes it.
type Prober struct {
	source  trust.Source
	domain  trust.Domain
	cluster federation.ClusterName
	log     *slog.Logger
	changed func() // some gateway fell silent or came back

	probe func(context.Context, target) error

	mu      sync.Mutex
	targets map[target]probeState
	poke    chan struct{}
}

// NewProber returns the prober of the control plane of cluster. changed is
// called whenever a gateway falls silent, comes back, or is probed for the
// first time; it must not block.
func NewProber(source trust.Source, domain trust.Domain, cluster federation.ClusterName, changed func(), log *slog.Logger) *Prober {
	return &Prober{
		source: source, domain: domain, cluster: cluster, log: log, changed: changed,
		targets: map[target]probeState{}, poke: make(chan struct{}, 1),
		probe: func(ctx context.Context, t target) error { return probeGateway(ctx, source, domain, t) },
	}
}

// Update takes the gateways to probe from the newest snapshot, which also says
// what was known of them before.
func (p *Prober) Update(s *federation.Snapshot) {
	here := s.Cluster(p.cluster)
	if here == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[target]probeState{}
	for _, c := range s.Clusters() {
		if c.Local || c.Network == here.Network {
			continue
		}
		for _, g := range c.Gateways {
			t := target{c.Name, g.Addr}
			state, known := p.targets[t]
			if !known {
				state = probeState{Silent: g.Silent, Since: g.SilentSince}
			}
			next[t] = state
		}
	}
	p.targets = next
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// Statuses returns what is known of a cluster's gateways, sorted by address.
func (p *Prober) Statuses(cluster federation.ClusterName) []v1alpha1.GatewayStatus {
	return gatewayStatuses(p.gateways(cluster))
}

func (p *Prober) gateways(cluster federation.ClusterName) map[string]probeState {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]probeState{}
	for t, state := range p.targets {
		if t.cluster == cluster {
			out[t.addr.String()] = state
		}
	}
	return out
}

// Run probes until ctx ends; only the elected replica runs it.
func (p *Prober) Run(ctx context.Context) error {
	running := map[target]context.CancelFunc{}
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		wanted := p.snapshotTargets()
		for t, stop := range running {
			if !wanted[t] {
				stop()
				delete(running, t)
			}
		}
		for t := range wanted {
			if running[t] == nil {
				pctx, stop := context.WithCancel(ctx)
				running[t] = stop
				probes.Go(func() { p.watch(pctx, t) })
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-p.poke:
		}
	}
}

func (p *Prober) snapshotTargets() map[target]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[target]bool{}
	for t := range maps.Keys(p.targets) {
		out[t] = true
	}
	return out
}

// watch probes one target until ctx ends.
func (p *Prober) watch(ctx context.Context, t target) {
	due := time.Now().Add(t.phase())
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		began := time.Now()
		err := p.probe(ctx, t)
		ended := time.Now()
		if ctx.Err() != nil {
			return
		}
		if err == nil || !starved(due, began) && !starved(began.Add(probeTimeout), ended) {
			p.note(t, err)
		}
		if due = due.Add(probeInterval); starved(due, ended) {
			due = ended // without making up for what was left out
		}
	}
}

// note records how a probe ended.
func (p *Prober) note(t target, err error) {
	p.mu.Lock()
	old, wanted := p.targets[t]
	now := old.next(err, time.Now())
	if wanted {
		p.targets[t] = now
	}
	p.mu.Unlock()
	if !wanted || old.known && old.Silent == now.Silent {
		return
	}
	if old.Silent != now.Silent {
		p.log.Warn("gateway changed", "cluster", t.cluster, "address", t.addr.String(), "silent", now.Silent, "message", now.Message)
	}
	p.changed()
}

// status turns what is known of a gateway into the form of a ClusterLink.
func (p probeState) status(address string) v1alpha1.GatewayStatus {
	out := v1alpha1.GatewayStatus{Address: address, Answers: !p.Silent, Message: p.Message}
	if !p.Since.IsZero() {
		out.Since = timeOf(p.Since)
	}
	return out
}
