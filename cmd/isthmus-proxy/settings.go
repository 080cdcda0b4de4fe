package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/health"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept"
	"github.com/isthmus-mesh/isthmus/trust"
)

// A role is what the proxy is.
type role int

const (
	roleSidecar role = iota
	roleGateway      // of the settings' kind
)

// exclusions is what intercept leaves alone, as text.
type exclusions struct {
	inboundPorts, outboundPorts, outboundCIDRs, uids, gids, interfaces string
	onlyInboundPorts, onlyOutboundCIDRs, alsoOutboundPorts             string
}

func (e *exclusions) flags(f *pflag.FlagSet, env func(string) string) {
	text(f, env, &e.inboundPorts, "exclude-inbound-ports", "ISTHMUS_EXCLUDE_INBOUND_PORTS", "", "ports, comma-separated, that reach the application directly")
	text(f, env, &e.outboundPorts, "exclude-outbound-ports", "ISTHMUS_EXCLUDE_OUTBOUND_PORTS", "", "ports, comma-separated, that leave the pod directly")
	text(f, env, &e.outboundCIDRs, "exclude-outbound-cidrs", "ISTHMUS_EXCLUDE_OUTBOUND_CIDRS", "", "address ranges, comma-separated, that are reached directly")
	text(f, env, &e.uids, "exclude-outbound-uids", "ISTHMUS_EXCLUDE_OUTBOUND_UIDS", "", "ids of users, comma-separated, whose processes call directly")
	text(f, env, &e.gids, "exclude-outbound-gids", "ISTHMUS_EXCLUDE_OUTBOUND_GIDS", "", "ids of groups, comma-separated, whose processes call directly")
	text(f, env, &e.interfaces, "exclude-interfaces", "ISTHMUS_EXCLUDE_INTERFACES", "", "network interfaces, comma-separated, that are left alone")
	text(f, env, &e.onlyInboundPorts, "include-inbound-ports", "ISTHMUS_INCLUDE_INBOUND_PORTS", "", "ports, comma-separated, whose connections are taken; all others reach the application directly; * (default) or none")
	text(f, env, &e.onlyOutboundCIDRs, "include-outbound-cidrs", "ISTHMUS_INCLUDE_OUTBOUND_CIDRS", "", "address ranges, comma-separated, to which connections are taken; all others are reached directly; * (default) or none")
	text(f, env, &e.alsoOutboundPorts, "include-outbound-ports", "ISTHMUS_INCLUDE_OUTBOUND_PORTS", "", "ports, comma-separated, to which connections are taken whatever their address; * is all")
}

func (e *exclusions) parse() (opts intercept.Options, err error) {
	if opts.ExcludeInboundPorts, err = intercept.ParsePorts(e.inboundPorts); err != nil {
		return opts, fmt.Errorf("exclude inbound ports: %w", err)
	}
	if opts.ExcludeOutboundPorts, err = intercept.ParsePorts(e.outboundPorts); err != nil {
		return opts, fmt.Errorf("exclude outbound ports: %w", err)
	}
	if opts.ExcludeOutboundCIDRs, err = intercept.ParseCIDRs(e.outboundCIDRs); err != nil {
		return opts, fmt.Errorf("exclude outbound ranges: %w", err)
	}
	if opts.ExcludeUIDs, err = intercept.ParseIDs(e.uids); err != nil {
		return opts, fmt.Errorf("exclude users: %w", err)
	}
	if opts.ExcludeGIDs, err = intercept.ParseIDs(e.gids); err != nil {
		return opts, fmt.Errorf("exclude groups: %w", err)
	}
	if opts.ExcludeInterfaces, err = intercept.ParseInterfaces(e.interfaces); err != nil {
		return opts, fmt.Errorf("exclude interfaces: %w", err)
	}
	return opts, e.parseOnly(&opts)
}

// parseOnly parses what is taken where not everything is.
func (e *exclusions) parseOnly(opts *intercept.Options) (err error) {
	if opts.OnlyInboundPorts, err = intercept.ParseOnly(e.onlyInboundPorts, intercept.ParsePorts); err != nil {
		return fmt.Errorf("include inbound ports: %w", err)
	}
	if opts.OnlyOutboundCIDRs, err = intercept.ParseOnly(e.onlyOutboundCIDRs, intercept.ParseCIDRs); err != nil {
		return fmt.Errorf("include outbound ranges: %w", err)
	}
	if strings.TrimSpace(e.alsoOutboundPorts) == intercept.All {
		opts.OnlyOutboundCIDRs = intercept.Only[netip.Prefix]{}
		return nil
	}
	if opts.AlsoOutboundPorts, err = intercept.ParsePorts(e.alsoOutboundPorts); err != nil {
		return fmt.Errorf("include outbound ports: %w", err)
	}
	return nil
}

// settings is what sidecar and gateway are told. check fills the fields below the line.
type settings struct {
	role                                 role
	kind                                 string // of a gateway: api.GatewayEastWest or api.GatewayEntry
	pod, namespace, uid, ip, ips         string
	account, nodeName, cluster, network  string
	domainName, discovery, discoveryName string
	probesText, dataplane, envoy         string
	tokenPath, bundlePath, dataDir       string
	logLevel                             string
	bind                                 string
	drainDelay, drainTimeout             time.Duration

	domain       trust.Domain
	self, server trust.ID
	address      netip.Addr
	probes       map[string]health.Probe
}

// text defines a flag whose default is a variable of the environment.
func text(f *pflag.FlagSet, env func(string) string, to *string, name, variable, value, usage string) {
	f.StringVar(to, name, cmp.Or(env(variable), value), usage+" ($"+variable+")")
}

func (c *settings) flags(f *pflag.FlagSet, env func(string) string) {
	text(f, env, &c.pod, "pod-name", "POD_NAME", "", "name of the pod")
	text(f, env, &c.namespace, "pod-namespace", "POD_NAMESPACE", "", "namespace of the pod")
	text(f, env, &c.uid, "pod-uid", "POD_UID", "", "uid of the pod")
	text(f, env, &c.ip, "pod-ip", "POD_IP", "", "address of the pod")
	text(f, env, &c.ips, "pod-ips", "POD_IPS", "", "addresses of the pod, comma-separated")
	text(f, env, &c.account, "service-account", "SERVICE_ACCOUNT", "", "service account of the pod")
	text(f, env, &c.nodeName, "node-name", "NODE_NAME", "", "node of the pod")
	text(f, env, &c.cluster, "cluster", "ISTHMUS_CLUSTER", "", "cluster of the pod")
	text(f, env, &c.network, "network", "ISTHMUS_NETWORK", "", "network of the pod; the cluster's name when empty")
	text(f, env, &c.domainName, "trust-domain", "ISTHMUS_TRUST_DOMAIN", api.DefaultTrustDomain, "trust domain")
	text(f, env, &c.discovery, "discovery", "ISTHMUS_DISCOVERY", "isthmusd.isthmus-system.svc:15012", "host:port of isthmusd")
	text(f, env, &c.discoveryName, "discovery-cluster", "ISTHMUS_DISCOVERY_CLUSTER", "", "cluster in which that isthmusd runs; the pod's own when empty")
	text(f, env, &c.probesText, "probes", "ISTHMUS_PROBES", "", "the application's probes, as JSON")
	text(f, env, &c.dataplane, "dataplane", "ISTHMUS_DATAPLANE", dataplaneBuiltin, "builtin or envoy")
	text(f, env, &c.envoy, "envoy", "ENVOY", "envoy", "the program that is run as Envoy")
	text(f, env, &c.tokenPath, "token", "ISTHMUS_TOKEN", "/var/run/secrets/isthmus/token", "file of the service-account token")
	text(f, env, &c.bundlePath, "bundle", "ISTHMUS_BUNDLE", "/var/run/isthmus/root/"+api.BundleKey, "file of the roots to trust")
	text(f, env, &c.dataDir, "data", "ISTHMUS_DATA", "/var/run/isthmus/data", "folder in which identity and last good configuration are kept")
	text(f, env, &c.logLevel, "log-level", "ISTHMUS_LOG_LEVEL", "info", "debug, info, warn or error")
	text(f, env, &c.bind, "bind", "ISTHMUS_BIND", "", "address of the health and metrics ports; all when empty")
	delay, timeout := "default 0s", 25*time.Second
	if c.role == roleGateway {
		text(f, env, &c.kind, "kind", "ISTHMUS_GATEWAY", api.GatewayEastWest, "east-west: passes the mesh's mTLS on; entry: takes connections of pods without a sidecar")
		delay, timeout = "default 3s, 30s of an entry gateway", 40*time.Second // callers renew their connections within 30 s
	}
	f.DurationVar(&c.drainDelay, "drain-delay", 0, "how long to go on accepting after SIGTERM while being not ready, so that balancers notice ("+delay+")")
	f.DurationVar(&c.drainTimeout, "drain-timeout", timeout, "how long to wait for open connections after that")
}

// fill sets defaults that depend on other flags, which f has parsed.
func (c *settings) fill(f *pflag.FlagSet) {
	if !f.Changed("drain-delay") {
		c.drainDelay = c.defaultDrainDelay()
	}
}

// defaultDrainDelay is how long it takes until callers go elsewhere. Those of
// the entry gateway follow EndpointSlices, of which each import has some.
func (c *settings) defaultDrainDelay() time.Duration {
	switch {
	case c.role != roleGateway:
		return 0
	case c.kind == api.GatewayEntry:
		return 30 * time.Second
	}
	return 3 * time.Second
}

const (
	dataplaneBuiltin = "builtin"
	dataplaneEnvoy   = "envoy"
)

// check parses what is text, and names the first thing that is wrong.
func (c *settings) check() (err error) {
	for _, need := range []struct{ what, value string }{
		{"pod name ($POD_NAME)", c.pod}, {"pod namespace ($POD_NAMESPACE)", c.namespace}, {"pod address ($POD_IP)", cmp.Or(c.ip, c.ips)},
		{"service account ($SERVICE_ACCOUNT)", c.account}, {"cluster ($ISTHMUS_CLUSTER)", c.cluster},
	} {
		if need.value == "" {
			return fmt.Errorf("no %s given", need.what)
		}
	}
	if c.domain, err = trust.ParseDomain(c.domainName); err != nil {
		return err
	}
	if c.self, err = trust.NewID(c.domain, c.namespace, c.account); err != nil {
		return err
	}
	if c.server, err = trust.NewID(c.domain, api.SystemNamespace, api.ControlPlaneName); err != nil {
		return err
	}
	if c.address, err = health.PodAddress(cmp.Or(c.ips, c.ip)); err != nil {
		return fmt.Errorf("pod address: %w", err)
	}
	if c.probes, err = health.ParseProbes(c.probesText); err != nil {
		return err
	}
	if c.role == roleGateway && c.kind != api.GatewayEastWest && c.kind != api.GatewayEntry {
		return fmt.Errorf("gateway kind %q is neither %s nor %s", c.kind, api.GatewayEastWest, api.GatewayEntry)
	}
	if err := c.checkDataplane(); err != nil {
		return err
	}
	c.network = cmp.Or(c.network, c.cluster)
	c.discoveryName = cmp.Or(c.discoveryName, c.cluster)
	return c.checkDir()
}

func (c *settings) checkDataplane() error {
	switch c.dataplane {
	case dataplaneBuiltin:
		return nil
	case dataplaneEnvoy:
		if _, err := exec.LookPath(c.envoy); err != nil {
			return fmt.Errorf("dataplane envoy: %w (name the program with --envoy, or use the data plane %s)", err, dataplaneBuiltin)
		}
		return nil
	}
	return fmt.Errorf("dataplane %q is neither %s nor %s", c.dataplane, dataplaneBuiltin, dataplaneEnvoy)
}

// checkDir makes sure that something can be kept in the data folder.
func (c *settings) checkDir() error {
	if err := os.MkdirAll(c.dataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	f, err := os.CreateTemp(c.dataDir, ".writable-*")
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (c *settings) lastGoodPath() string { return filepath.Join(c.dataDir, "xds.lastgood") }

// node says who asks, as docs/xds.md has it.
func (c *settings) node() *corev3.Node {
	kind, proxy := "sidecar", "sidecar"
	if c.role == roleGateway {
		kind, proxy = "router", c.kind
	}
	metadata := make(map[string]*structpb.Value)
	for k, v := range map[string]string{
		"CLUSTER_ID": c.cluster, "NETWORK": c.network, "NAMESPACE": c.namespace, "POD_NAME": c.pod, "SERVICE_ACCOUNT": c.account,
		"PROXY_TYPE": proxy, "VERSION": version, "SPEAKS": "mtls",
	} {
		metadata[k] = structpb.NewStringValue(v)
	}
	return &corev3.Node{
		Id:       strings.Join([]string{kind, c.address.String(), c.pod + "." + c.namespace, c.namespace + ".svc." + api.ZoneCluster}, "~"),
		Cluster:  c.account + "." + c.namespace,
		Metadata: &structpb.Struct{Fields: metadata},
	}
}
