package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/admin"
	"github.com/isthmus-mesh/isthmus/dataplane/health"
	"github.com/isthmus-mesh/isthmus/dataplane/identity"
	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

// An app is everything that runs in one process.
type app struct {
	cfg       settings
	log       *slog.Logger
	level     *slog.LevelVar
	registry  *prometheus.Registry
	identity  *identity.Identity
	discovery *grpc.ClientConn // for xDS
	plane     plane
	draining  atomic.Bool
	quit      func() // ends the program at once
}

// A plane is one of the two data planes with what feeds it.
type plane interface {
	// Run blocks until ctx ends.
	Run(ctx context.Context) error
	// Ready says why traffic cannot be served yet; nil when it can.
	Ready() error
	// Drain has callers go elsewhere and waits for open connections until ctx ends.
	Drain(ctx context.Context) error
	// Pages fills in what the admin server shows of it, and returns its metrics
	// where they are not in the registry.
	Pages(*admin.Options) prometheus.Gatherer
}

// serve runs a sidecar or gateway until ctx ends, then drains it.
func serve(ctx context.Context, cfg settings, log *slog.Logger, level *slog.LevelVar) error {
	p := &app{cfg: cfg, log: log, level: level, registry: prometheus.NewRegistry()}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.build(); err != nil {
		return err
	}
	// The parts outlive ctx by the drain.
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.quit = stop
	group, lasting := errgroup.WithContext(lasting)
	if err := p.start(lasting, group); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	select {
	case <-ctx.Done():
		p.stopPolitely()
	case <-lasting.Done():
	}
	stop()
	return group.Wait()
}

func (p *app) build() (err error) {
	p.identity, err = identity.New(identity.Options{
		Discovery: p.cfg.discovery, Cluster: p.cfg.discoveryName, Own: p.cfg.cluster,
		TokenPath: p.cfg.tokenPath, BundlePath: p.cfg.bundlePath, Dir: filepath.Join(p.cfg.dataDir, "identity"),
		Domain: p.cfg.domain, ControlPlaneID: p.cfg.server, ID: p.cfg.self,
		Dial: discoveryDial(p.cfg.role == roleSidecar), Log: p.log.With("part", "identity"),
	})
	if err != nil {
		return err
	}
	if p.discovery, err = p.dialDiscovery(); err != nil {
		return err
	}
	p.plane, err = p.newPlane()
	return err
}

// start opens the listeners and starts every part in group.
func (p *app) start(ctx context.Context, group *errgroup.Group) error {
	servers, err := p.servers()
	if err != nil {
		return err
	}
	group.Go(func() error {
		<-ctx.Done()
		return p.discovery.Close()
	})
	for _, run := range append(servers, p.plane.Run, p.identity.Run) {
		group.Go(func() error { return run(ctx) })
	}
	p.log.Info("started", "version", version, "proxy", p.cfg.node().GetId(), "cluster", p.cfg.cluster, "network", p.cfg.network, "dataplane", p.cfg.dataplane)
	return nil
}

// ready is the only thing that says whether traffic should come.
func (p *app) ready() error {
	if p.draining.Load() {
		return errors.New("draining")
	}
	if _, err := p.identity.SVID(); err != nil {
		return fmt.Errorf("no identity: %w", err)
	}
	if _, err := p.identity.Bundle(); err != nil {
		return err
	}
	return p.plane.Ready()
}

// stopPolitely drains within the limits of the configuration.
func (p *app) stopPolitely() {
	p.draining.Store(true)
	p.log.Info("draining", "delay", p.cfg.drainDelay, "timeout", p.cfg.drainTimeout)
	time.Sleep(p.cfg.drainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.drainTimeout)
	defer cancel()
	if err := p.plane.Drain(ctx); err != nil {
		p.log.Warn("connections were still open", "err", err)
	}
}

// drainByHand drains without ending the process.
func (p *app) drainByHand() {
	if p.draining.Swap(true) {
		return
	}
	p.log.Info("draining by hand")
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.drainTimeout)
		defer cancel()
		if err := p.plane.Drain(ctx); err != nil {
			p.log.Warn("connections were still open", "err", err)
		}
	}()
}

// servers opens the ports for health, metrics and admin.
func (p *app) servers() ([]func(context.Context) error, error) {
	var opened []net.Listener
	listen := func(host string, port int) (net.Listener, error) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			opened = append(opened, l)
		}
		return l, err
	}
	runs, err := p.openServers(listen)
	if err != nil {
		for _, l := range opened {
			l.Close()
		}
	}
	return runs, err
}

func (p *app) openServers(listen func(string, int) (net.Listener, error)) ([]func(context.Context) error, error) {
	healthListener, err := listen(p.cfg.bind, api.PortHealth)
	if err != nil {
		return nil, err
	}
	metricsListener, err := listen(p.cfg.bind, api.PortProxyMetrics)
	if err != nil {
		return nil, err
	}
	adminListener, err := listen("127.0.0.1", api.PortAdmin)
	if err != nil {
		return nil, err
	}
	healthServer, err := health.New(health.Options{
		Listener: healthListener, Ready: p.ready, Probes: p.cfg.probes, Pod: p.cfg.address,
		Dial: newDialer(p.cfg.role == roleSidecar).DialContext, Log: p.log.With("part", "health"),
	})
	if err != nil {
		return nil, err
	}
	opts := admin.Options{
		Listener: adminListener, Ready: p.ready, Drain: p.drainByHand, Quit: p.quit, Level: p.level,
		Certificates: func() any { return p.identity.Status() },
	}
	gatherer := prometheus.Gatherers{p.registry}
	if more := p.plane.Pages(&opts); more != nil {
		gatherer = append(gatherer, more)
	}
	opts.Gatherer = gatherer
	adminServer, err := admin.New(opts)
	if err != nil {
		return nil, err
	}
	return []func(context.Context) error{healthServer.Run, admin.NewMetrics(metricsListener, gatherer).Run, adminServer.Run}, nil
}

// lastGood is where the last good configuration is kept.
func (p *app) lastGood() *xds.File {
	return &xds.File{Path: p.cfg.lastGoodPath(), Node: p.cfg.node().GetId()}
}
