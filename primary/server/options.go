// Package server composes isthmusd: it reads the linked clusters, serves
// discovery and certificates, injects sidecars, and runs the controllers where
// it is elected.
package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/remote/registry"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Listeners are where isthmusd is reached. All are required, and Run closes
// them. Debug should be on loopback: it asks nobody who he is.
type Listeners struct {
	Discovery net.Listener // xDS and certificates, over TLS
	Webhook   net.Listener
	Metrics   net.Listener
	Health    net.Listener
	Debug     net.Listener
}

// Options configures a Server.
type Options struct {
	Config  *rest.Config           // required: the cluster it runs in
	Cluster federation.ClusterName // required
	Network federation.NetworkName // empty: the cluster's name
	Domain  trust.Domain           // required

	Namespace string // empty: isthmus-system
	// Identity tells replicas apart in the election; the pod's name. Required.
	Identity string
	// CADir holds the files of the Secret isthmus-ca. Required. They may change
	// while the server runs.
	CADir string

	Listeners Listeners
	// Injection is what sidecars are told. Cluster, network and trust domain are
	// taken from above.
	Injection webhook.Config
	// Revision tells this control plane from others of the same cluster, which have Services and
	// webhook configurations of their own and share one Lease; empty is the first one's.
	Revision string
	// WebhookHosts are further names by which the API server calls the webhook.
	WebhookHosts []string
	// EntryPorts are the ports of the entry gateway; the zero range means
	// DefaultEntryPorts. See api.ParsePortRange.
	EntryPorts api.PortRange
	// Synthetic holds the addresses that stand for pods of other networks; zero
	// means DefaultSyntheticRange. See ParseSyntheticRange.
	Synthetic netip.Prefix
	// EntryFrom are the ranges from which entry gateways may be called, and for
	// nothing else; nil means those of the cluster's pods and nodes. See
	// ParseEntryFrom.
	EntryFrom []netip.Prefix
	// ExportNamespaces are the system namespaces whose services may be exported
	// all the same. See ParseExportNamespaces.
	ExportNamespaces []string
	// Lease is how long a lost cluster's endpoints are kept where its ClusterLink
	// does not say; 0 leaves it to the links. At least MinLease.
	Lease time.Duration
	// AllowServers lists remote API servers that may be on loopback; for tests.
	AllowServers []string

	Log     *slog.Logger         // nil discards
	Metrics *prometheus.Registry // nil makes one
}

func (o Options) check() (Options, error) {
	if o.Namespace == "" {
		o.Namespace = api.SystemNamespace
	}
	if o.Network == "" {
		o.Network = federation.NetworkName(o.Cluster)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.EntryPorts.IsZero() {
		o.EntryPorts, _ = api.ParsePortRange(DefaultEntryPorts)
	}
	if o.Synthetic == (netip.Prefix{}) {
		o.Synthetic, _ = ParseSyntheticRange(DefaultSyntheticRange)
	}
	o.Injection.Cluster, o.Injection.DiscoveryCluster = string(o.Cluster), string(o.Cluster)
	o.Injection.Network, o.Injection.TrustDomain = string(o.Network), o.Domain.String()
	if o.Injection.Discovery == "" {
		o.Injection.Discovery = fmt.Sprintf("%s.%s.svc:%d", api.OfRevision(api.ControlPlaneName, o.Revision), o.Namespace, api.PortDiscovery)
	}
	l := o.Listeners
	switch {
	case o.Config == nil, o.Identity == "", o.CADir == "":
		return o, errors.New("isthmusd: Config, Identity and CADir are required")
	case !trust.ValidCluster(string(o.Cluster)):
		return o, fmt.Errorf("isthmusd: cluster name %q is not a DNS label", o.Cluster)
	case o.Domain.IsZero():
		return o, errors.New("isthmusd: a trust domain is required")
	case l.Discovery == nil || l.Webhook == nil || l.Metrics == nil || l.Health == nil || l.Debug == nil:
		return o, errors.New("isthmusd: all listeners are required")
	case o.Lease != 0 && o.Lease < MinLease:
		return o, fmt.Errorf("isthmusd: a lease of %v is too short: at least %v", o.Lease, MinLease)
	case o.Injection.Image == "":
		return o, errors.New("isthmusd: the image of sidecars is required")
	}
	return o, nil
}

// restConfig is what every client of the local cluster starts from.
func (o Options) restConfig() *rest.Config {
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = 200, 400
	config.UserAgent = "isthmusd"
	return config
}

// forRemote returns the options of the plane of a remote. Its replicas are told
// apart by the primary's name too: a remote may have two, and both vote in it.
func (o Options) forRemote(w *wanted, transport *registry.Transport, log *slog.Logger) Options {
	o.Identity = string(o.Cluster) + "/" + o.Identity
	o.Cluster, o.Network = federation.ClusterName(w.cluster), federation.NetworkName(cmp.Or(w.network, w.cluster))
	o.Config, o.CADir, o.Log = transport.Config(w.access.Server), "", log
	o.Injection.Cluster, o.Injection.DiscoveryCluster, o.Injection.Network = w.cluster, w.cluster, string(o.Network)
	o.EntryFrom = nil // of the own cluster
	return o
}
