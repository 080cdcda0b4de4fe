package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/dataplane/admin"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

// builtin is the built-in data plane, fed by our own xDS client.
type builtin struct {
	engine  *proxy.Proxy
	applier *applier
	client  *xds.Client
	needs   []string // listeners
	gateway bool     // draining takes no new connections, and drills may break listeners

	identified <-chan struct{} // closed once there is an identity
}

func (p *app) newPlane() (plane, error) {
	if p.cfg.dataplane == dataplaneEnvoy {
		return p.newEnvoy()
	}
	return p.newBuiltin()
}

func (p *app) newBuiltin() (*builtin, error) {
	e, err := p.newEngine()
	if err != nil {
		return nil, err
	}
	a := newApplier(e, p.log.With("part", "config"))
	client, err := xds.New(xds.Options{
		Conn: p.discovery, Node: p.cfg.node(), Applier: a, LastGood: p.lastGood(),
		Log: p.log.With("part", "xds"), Metrics: p.registry,
	})
	if err != nil {
		return nil, err
	}
	return &builtin{engine: e, applier: a, client: client, needs: p.cfg.listeners(), gateway: p.cfg.role == roleGateway, identified: p.identity.Ready()}, nil
}

func (b *builtin) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.engine.Run(ctx) })
	group.Go(func() error { return b.applier.Run(ctx) })
	group.Go(func() error {
		// xDS is opened with the SVID, and without one nothing could be served.
		select {
		case <-ctx.Done():
			return nil
		case <-b.identified:
			return b.client.Run(ctx)
		}
	})
	return group.Wait()
}

func (b *builtin) Ready() error {
	select {
	case <-b.client.Ready():
		return b.applier.bound(b.needs)
	default:
	}
	s := b.client.Status()
	if s.Connected {
		return errors.New("waiting for listeners and xds clusters")
	}
	return fmt.Errorf("no configuration: control plane not reached: %s", s.LastError)
}

// Drain goes on serving new callers at a sidecar: the application may still be
// there, and is nowhere else. At a gateway they are sent elsewhere at once, so
// that all connections that it has are over when their longest life is.
func (b *builtin) Drain(ctx context.Context) error {
	if b.gateway {
		b.engine.Refuse()
	}
	return b.engine.Drain(ctx)
}

func (b *builtin) Pages(o *admin.Options) prometheus.Gatherer {
	o.State, o.XDS = b.client.State, b.client.Status
	o.Clusters = func() any { return b.engine.Clusters() }
	o.Listeners = func() any { return b.engine.Listeners() }
	if b.gateway {
		o.Faults = func() any { return b.engine.Faults() }
		o.Break, o.Mend = b.engine.Break, b.engine.Mend
	}
	return nil // all in the registry
}
