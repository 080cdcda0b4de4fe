package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/dataplane/admin"
	"github.com/isthmus-mesh/isthmus/dataplane/envoy"
	"github.com/isthmus-mesh/isthmus/dataplane/xds/relay"
	"github.com/isthmus-mesh/isthmus/dataplane/xds/secrets"
)

// readyTimeout bounds the question to Envoy whether it is ready.
const readyTimeout = time.Second

// envoyPlane is Envoy, fed by the relay and the secrets server.
type envoyPlane struct {
	relay      *relay.Relay
	secrets    *secrets.Server
	supervisor *envoy.Supervisor
	admin      *envoy.Admin
	socket     string // ADS and SDS for Envoy
	bootstrap  string // file
	config     envoy.Config
	identified <-chan struct{}
	refuses    bool // draining takes no new connections
}

func (p *app) newEnvoy() (*envoyPlane, error) {
	dir, err := filepath.Abs(filepath.Join(p.cfg.dataDir, "envoy"))
	if err != nil {
		return nil, err
	}
	e := &envoyPlane{
		socket: filepath.Join(dir, "isthmus.sock"), bootstrap: filepath.Join(dir, "bootstrap.json"), identified: p.identity.Ready(),
		admin: envoy.NewAdmin(filepath.Join(dir, "admin.sock")), refuses: p.cfg.role == roleGateway,
	}
	e.config = envoy.Config{Node: p.cfg.node(), Socket: e.socket, Admin: filepath.Join(dir, "admin.sock")}
	e.relay, err = relay.New(relay.Options{Conn: p.discovery, Node: p.cfg.node(), LastGood: p.lastGood(), Log: p.log.With("part", "relay")})
	if err != nil {
		return nil, err
	}
	if e.secrets, err = secrets.New(p.identity, p.log.With("part", "secrets")); err != nil {
		return nil, err
	}
	e.supervisor, err = envoy.New(envoy.Options{
		Path: p.cfg.envoy, Args: p.envoyArgs(e.bootstrap), Stdout: os.Stdout, Stderr: os.Stderr, Log: p.log.With("part", "envoy"),
	})
	return e, err
}

func (p *app) envoyArgs(bootstrap string) []string {
	level := map[string]string{"DEBUG": "debug", "WARN": "warning", "ERROR": "error"}[p.level.Level().String()]
	if level == "" {
		level = "info"
	}
	return []string{
		"--config-path", bootstrap, "--disable-hot-restart", "--log-level", level,
		"--drain-time-s", fmt.Sprint(int(p.cfg.drainTimeout.Seconds())), "--drain-strategy", "immediate",
	}
}

// Run writes the bootstrap, serves Envoy and keeps it running until ctx ends.
func (e *envoyPlane) Run(ctx context.Context) error {
	listener, err := e.prepare()
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	e.relay.Register(server)
	e.secrets.Register(server)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.relay.Run(ctx) })
	group.Go(func() error { return server.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		server.Stop()
		return nil
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-e.identified: // xDS is opened with the SVID
			return e.supervisor.Run(ctx)
		}
	})
	return group.Wait()
}

// prepare makes the folder that only we can open, the bootstrap and the socket.
func (e *envoyPlane) prepare() (net.Listener, error) {
	b, err := envoy.Bootstrap(e.config)
	if err != nil {
		return nil, err
	}
	text, err := envoy.Marshal(b)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(e.socket)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(e.bootstrap, text, 0o600); err != nil {
		return nil, err
	}
	for _, left := range []string{e.socket, e.config.Admin} { // by a process that was killed
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return net.Listen("unix", e.socket)
}

func (e *envoyPlane) Ready() error {
	select {
	case <-e.relay.Ready():
	default:
		s := e.relay.Status()
		if s.Connected || s.LastError == "" {
			return errors.New("waiting for envoy to accept listeners and xds clusters")
		}
		return fmt.Errorf("no configuration: %s", s.LastError)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	return e.admin.Ready(ctx)
}

// Drain takes no new callers at a gateway, as the built-in data plane.
func (e *envoyPlane) Drain(ctx context.Context) error { return e.admin.Drain(ctx, e.refuses) }

func (e *envoyPlane) Pages(o *admin.Options) prometheus.Gatherer {
	o.State, o.XDS = e.relay.State, e.relay.Status
	o.Clusters = e.page("/clusters?format=json")
	o.Listeners = e.page("/listeners?format=json")
	return e.admin
}

// page returns what shows a page of Envoy's.
func (e *envoyPlane) page(path string) func() any {
	return func() any {
		body, err := e.admin.JSON(context.Background(), path)
		if err != nil {
			return map[string]string{"error": err.Error()}
		}
		return body
	}
}
