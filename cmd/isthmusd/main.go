// Program isthmusd is the control plane of one cluster.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/internal/memory"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/server"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "isthmusd:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	cluster, network, domain   string
	caDir, kubeconfig, logText string
	image, pullPolicy, plane   string
	allowServers               []string
	entryPorts, synthetic      string
	entryFrom, exportFrom      []string
	lease, drainDelay          time.Duration
	revision                   string
}

func newCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "isthmusd", Short: "Control plane of an Isthmus cluster", Args: cobra.NoArgs,
		Version: version, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&s.cluster, "cluster", "", "name of this cluster in the clusterset")
	f.StringVar(&s.network, "network", "", "network of this cluster (default: the cluster's name)")
	f.StringVar(&s.domain, "trust-domain", api.DefaultTrustDomain, "SPIFFE trust domain of the clusterset")
	f.StringVar(&s.caDir, "ca-dir", "/etc/isthmus/ca", "folder with the files of the Secret "+api.CASecretName)
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig of this cluster (default: the pod's service account)")
	f.StringVar(&s.image, "proxy-image", api.ImageHub+"/"+api.ImageProxy+":dev", "image of sidecars")
	f.StringVar(&s.pullPolicy, "proxy-pull-policy", string(corev1.PullIfNotPresent), "image pull policy of sidecars")
	f.StringVar(&s.plane, "dataplane", "builtin", "data plane of sidecars: builtin or envoy")
	f.StringVar(&s.entryPorts, "entry-ports", server.DefaultEntryPorts, "ports at which the entry gateway serves imports, first and last")
	f.StringSliceVar(&s.entryFrom, "entry-from", nil, "address ranges from which the entry gateway may be called, and for nothing else (default: this cluster's pods and nodes)")
	f.StringSliceVar(&s.exportFrom, "export-namespaces", nil, "system namespaces whose services may be exported all the same, such as kube-system")
	f.StringVar(&s.synthetic, "synthetic-range", server.DefaultSyntheticRange, "addresses that stand for pods of other networks")
	f.DurationVar(&s.lease, "lease", 0, "how long a lost cluster's endpoints are kept where its ClusterLink does not say (default 10m)")
	f.StringVar(&s.revision, "revision", "", "tells this control plane from others of the same cluster, which have Services and webhooks of their own")
	f.DurationVar(&s.drainDelay, "drain-delay", 0, "how long to go on serving after SIGTERM, so that API servers and proxies notice that it goes")
	f.StringVar(&s.logText, "log-level", "info", "debug, info, warn or error")
	f.StringArrayVar(&s.allowServers, "allow-server", nil, "remote API server that may be on loopback; for tests")
	return cmd
}

func (s *settings) run(ctx context.Context) error {
	log, err := newLog(s.logText)
	if err != nil {
		return err
	}
	opts, err := s.options(log)
	if err != nil {
		return err
	}
	memory.KeepBelowLimit(ctx, log)
	if opts.Listeners, err = listen(); err != nil {
		return err
	}
	srv, err := server.New(opts)
	if err != nil {
		return err
	}
	return srv.Run(linger(ctx, s.drainDelay))
}

// linger returns a context that ends delay after ctx has.
func linger(ctx context.Context, delay time.Duration) context.Context {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(delay, cancel) })
	return out
}

func (s *settings) options(log *slog.Logger) (server.Options, error) {
	domain, err := trust.ParseDomain(s.domain)
	if err != nil {
		return server.Options{}, err
	}
	ranges, err := s.ranges()
	if err != nil {
		return server.Options{}, err
	}
	config, err := s.config()
	if err != nil {
		return server.Options{}, err
	}
	identity := os.Getenv("POD_NAME")
	if identity == "" {
		if identity, err = os.Hostname(); err != nil {
			return server.Options{}, err
		}
	}
	resources, err := sidecarResources(os.Getenv("SIDECAR_RESOURCES"))
	if err != nil {
		return server.Options{}, err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return server.Options{
		Config: config, Cluster: federation.ClusterName(s.cluster), Network: federation.NetworkName(s.network), Domain: domain,
		Namespace: os.Getenv("POD_NAMESPACE"), Identity: identity, CADir: s.caDir, AllowServers: s.allowServers,
		Revision: s.revision,
		Injection: webhook.Config{
			Image: s.image, PullPolicy: corev1.PullPolicy(s.pullPolicy), Dataplane: s.plane, Resources: resources,
		},
		EntryPorts: ranges.ports, EntryFrom: ranges.from, ExportNamespaces: ranges.namespaces, Synthetic: ranges.synthetic, Lease: s.lease,
		Log: log, Metrics: metrics,
	}, nil
}

// config returns the way to this cluster's API server.
func (s *settings) config() (*rest.Config, error) {
	if s.kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("not in a cluster: give --kubeconfig")
	}
	return config, err
}

// sidecarResources reads the chart's proxy.resources.
func sidecarResources(text string) (corev1.ResourceRequirements, error) {
	var out corev1.ResourceRequirements
	if text == "" {
		return out, nil
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, fmt.Errorf("variable SIDECAR_RESOURCES: %w", err)
	}
	return out, nil
}

// newLog returns the program's log, and hands it to the libraries that have
// their own.
func newLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})
	klog.SetSlogLogger(slog.New(handler).With("part", "client-go"))
	ctrllog.SetLogger(logr.FromSlogHandler(handler))
	return slog.New(handler), nil
}
