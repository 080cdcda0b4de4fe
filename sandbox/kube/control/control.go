// Package control runs the control plane of one cluster in this process: etcd,
// kube-apiserver and, where asked for, kube-controller-manager and
// kube-scheduler. Kubernetes keeps global state, so a process holds one cluster.
package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/isthmus-mesh/isthmus/sandbox/kube/pki"
)

// Options configures a control plane.
type Options struct {
	Name         string // of the cluster; used in kubeconfigs
	Dir          string // keeps certificates and data; a second run on it goes on with them
	SocketDir    string // for etcd's sockets; short, as a socket's path has at most 107 bytes. Empty means Dir
	Bind         string // host:port to serve on; port 0 takes a free one
	ServiceRange string // CIDR of ClusterIPs
	Controllers  bool   // also run controller-manager and scheduler
	// Ready is called once, when /readyz answers. Kubeconfig is the path of the
	// administrator's kubeconfig.
	Ready func(kubeconfig string)
}

type server struct {
	opts     Options
	pki      *pki.Authority
	listener net.Listener
}

// Run runs the control plane until ctx ends or a part of it fails.
func Run(ctx context.Context, opts Options) error {
	if opts.SocketDir == "" {
		opts.SocketDir = opts.Dir
	}
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return err
	}
	authority, err := pki.Open(opts.Dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", opts.Bind)
	if err != nil {
		return fmt.Errorf("listen for the API server: %w", err)
	}
	defer listener.Close()
	s := &server{opts: opts, pki: authority, listener: listener}
	return s.run(ctx)
}

func (s *server) run(ctx context.Context) error {
	kubeconfig := filepath.Join(s.opts.Dir, "kubeconfig")
	if err := s.pki.WriteKubeconfig(kubeconfig, s.opts.Name, s.url(), "isthmus-sandbox-admin", "system:masters"); err != nil {
		return err
	}
	etcdCtx, stopEtcd := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEtcd() // after the API server, which would wait for it
	etcd, err := startEtcd(etcdCtx, filepath.Join(s.opts.Dir, "etcd"), s.opts.SocketDir, filepath.Join(s.opts.Dir, "etcd.log"))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.runAPIServer(ctx, etcd) })
	group.Go(func() error { return s.runClients(ctx, group, kubeconfig) })
	return group.Wait()
}

// runClients starts what needs an API server that answers.
func (s *server) runClients(ctx context.Context, group *errgroup.Group, kubeconfig string) error {
	if err := WaitFor(ctx, kubeconfig, "/healthz/poststarthook/start-apiextensions-controllers"); err != nil {
		return err
	}
	if s.opts.Controllers {
		group.Go(func() error { return s.runControllerManager(ctx) })
		group.Go(func() error { return s.runScheduler(ctx) })
	}
	if err := WaitFor(ctx, kubeconfig, "/readyz"); err != nil {
		return err
	}
	if s.opts.Ready != nil {
		s.opts.Ready(kubeconfig)
	}
	return nil
}

func (s *server) url() string { return "https://" + s.listener.Addr().String() }

// WaitFor returns nil once path answers 200.
func WaitFor(ctx context.Context, kubeconfig, path string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	client.Timeout = 5 * time.Second
	for {
		if answersOK(ctx, client, config.Host+path) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s", path), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answersOK(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
