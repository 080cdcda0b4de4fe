package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/trust"
)

// installFlags are the flags of install as given.
type installFlags struct {
	out         output
	clusterset  string
	domain      string
	names       map[string]string // by context
	network     []string
	topology    string
	primary     string
	opened      *cluster.Cluster // primary, where it is named
	files       clusterset.IssuerFiles
	hub, tag    string
	strict      bool
	replicas    int
	gateways    []string
	allowServer []string
	dns         string
	profile     string
	valueFiles  []string
	set         []string
	reset       bool
	anyway      bool // without looking first
	print       string
	revision    string
	timeout     time.Duration
	verbose     bool
}

func newInstallCommand(e *env) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install CONTEXT...",
		Short: "Install the mesh in clusters of one clusterset, and wait until it is ready",
		Long: `Install the control plane, the east-west and the entry gateway and the definitions in each cluster, and let its CoreDNS serve the
names of the clusterset (one zone and one option in its Corefile; uninstall takes them back).
The first installation makes the clusterset's root, whose key stays on this machine, encrypted, in
~/.isthmus/CLUSTERSET (or $ISTHMUS_HOME); the next ones find it there. Each cluster gets an
intermediate of its own. It may be run again: nothing changes that is as it should be.
In each cluster it is one Helm release, isthmus in isthmus-system: helm list, upgrade, history and rollback work on it, and
install goes on from what helm install or helm upgrade have made. What was set once stays set; --reset-values forgets it.`,
		Example: `  isthmus install east west
  isthmus install prod-eu --cluster-name prod-eu=eu --network vpc-1
  isthmus install east west --network east=lan,west=lan      (pods reach one another directly)
  isthmus install east west --topology primary-remote        (west has no control plane: east's serves it)
  isthmus install north --primary east                       (one more remote)
  isthmus install west --set entry.ports=30000-31999 --set syntheticRange=240.10.0.0/16
  isthmus install west --profile minimal -f west.yaml        (--set before -f before --profile before the default)
  isthmus install west --tag v2                              (upgrade: definitions, isthmusd, then the gateways)
  isthmus install west --revision canary --tag v2            (beside the one there is; label namespaces istio.io/rev=canary)
  isthmus install west --print values > west.yaml            (for helm, with the chart of: isthmus chart -o .)
  isthmus install west --root-cert root.crt --root-key root.key --root-passphrase-file pass`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInstall(cmd.Context(), e, f, args)
		},
	}
	addOutput(cmd, &f.out)
	flags := cmd.Flags()
	flags.StringVar(&f.clusterset, "clusterset", "default", "name of the clusterset: which root this machine uses")
	flags.StringVar(&f.domain, "trust-domain", api.DefaultTrustDomain, "SPIFFE trust domain, the same in every cluster")
	flags.StringToStringVar(&f.names, "cluster-name", nil, "CONTEXT=NAME: the cluster's name; default the context's")
	flags.StringSliceVar(&f.network, "network", nil, "NAME for all, or CONTEXT=NAME: clusters whose pods reach one another; default the cluster's name")
	flags.StringVar(&f.topology, "topology", "", topologyMultiPrimary+": each cluster has a control plane (default); "+topologyPrimaryRemote+": the first context's serves the others")
	flags.StringVar(&f.primary, "primary", "", "context of the installed cluster whose control plane is to serve these, which get none of their own")
	flags.StringVar(&f.files.RootCert, "root-cert", "", "certificate of an existing root")
	flags.StringVar(&f.files.RootKey, "root-key", "", "its key, encrypted PKCS#8")
	flags.StringVar(&f.files.Passphrase, "root-passphrase-file", "", "file with the key's passphrase")
	flags.StringVar(&f.files.Chain, "ca-cert", "", "an existing intermediate of this one cluster, with its chain")
	flags.StringVar(&f.files.Key, "ca-key", "", "its key, PKCS#8")
	flags.StringVar(&f.files.Bundle, "ca-bundle", "", "the roots to trust")
	flags.StringVar(&f.hub, "hub", "", "where images come from; default "+api.ImageHub)
	flags.StringVar(&f.tag, "tag", "", "tag of the images")
	flags.BoolVar(&f.strict, "strict", false, "refuse plaintext in the whole mesh")
	flags.IntVar(&f.replicas, "replicas", 0, "replicas of the control plane")
	flags.StringSliceVar(&f.gateways, "gateway-address", nil, "HOST:PORT of the east-west gateway where its Service cannot tell it (one cluster)")
	flags.StringSliceVar(&f.allowServer, "allow-server", nil, "remote API servers to accept although they are on loopback; for tests")
	flags.StringVar(&f.dns, "dns", string(clusterset.DNSAuto), "auto: let the cluster's CoreDNS serve the clusterset's names; skip: leave it alone")
	flags.StringVar(&f.profile, "profile", "", "values for a purpose: "+strings.Join(install.Profiles(), ", "))
	flags.StringArrayVarP(&f.valueFiles, "values", "f", nil, "file with values of the chart, as helm's -f")
	flags.StringArrayVar(&f.set, "set", nil, "KEY=VALUE of the chart, as helm's --set; it stays set until --reset-values")
	flags.StringVar(&f.revision, "revision", "", "a further control plane of this name, with a webhook of its own, beside the one that is installed; for canary upgrades")
	flags.BoolVar(&f.reset, "reset-values", false, "forget the values that earlier installations were given")
	flags.BoolVar(&f.anyway, "skip-precheck", false, "do not look first whether the clusters can take it")
	flags.StringVar(&f.print, "print", "", "manifests or values: print what would be installed in this one cluster, and change nothing there")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long to wait until all is ready")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say each object")
	return cmd
}

func runInstall(ctx context.Context, e *env, f installFlags, contexts []string) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	clusters, err := e.open(contexts)
	if err != nil {
		return err
	}
	if f.primary != "" {
		found, err := e.open([]string{f.primary})
		if err != nil {
			return err
		}
		f.opened = found[0]
	}
	if f.revision != "" {
		return installRevision(ctx, e, f, clusters)
	}
	home, err := clusterset.Home(os.Getenv)
	if err != nil {
		return err
	}
	p := newProgress(e.Streams)
	if f.print != "" {
		return printInstallation(ctx, f, home, clusters, e.Out, func(line string) { p.say("", line) })
	}
	results, err := doInstall(ctx, f, home, clusters, func(cluster, step string) {
		if f.verbose || isWait(step) {
			p.say(cluster, step)
		}
	}, func(line string) { p.say("", line) })
	if err != nil {
		return err
	}
	if f.out == outputJSON {
		return printJSON(e.Out, map[string]any{"installed": results})
	}
	return printInstalled(e.Out, results, contexts)
}

// doInstall is install without its printing; the demo uses it too.
func doInstall(ctx context.Context, f installFlags, home string, clusters []*cluster.Cluster, step func(cluster, step string), note func(string)) ([]clusterset.Result, error) {
	opts, err := f.options(ctx, home, clusters, note)
	if err != nil {
		return nil, err
	}
	opts.Progress = step
	return clusterset.Install(ctx, opts)
}

// options checks the flags, and then the clusters, before anything is made or changed.
func (f installFlags) options(ctx context.Context, home string, clusters []*cluster.Cluster, note func(string)) (clusterset.InstallOptions, error) {
	var none clusterset.InstallOptions
	targets, err := f.targets(clusters)
	if err != nil {
		return none, err
	}
	domain, err := trust.ParseDomain(f.domain)
	if err != nil {
		return none, usageError{err}
	}
	store, err := clusterset.Open(home, f.clusterset)
	if err != nil {
		return none, usageError{err}
	}
	if f.dns != "" && f.dns != string(clusterset.DNSAuto) && f.dns != string(clusterset.DNSSkip) {
		return none, usageErrorf("--dns is auto or skip, not %q", f.dns)
	}
	values, err := f.values()
	if err != nil {
		return none, err
	}
	if !f.anyway {
		if err := checkClusters(ctx, targets, values); err != nil {
			return none, err
		}
	}
	issuer, err := clusterset.OpenIssuer(store, f.files, domain)
	if err != nil {
		return none, err
	}
	if issuer.Created {
		note("made the root of the clusterset; its key is in " + issuer.Origin + ": keep it safe, and apart from the passphrase")
	} else {
		note("use the root in " + issuer.Origin)
	}
	return clusterset.InstallOptions{Targets: targets, Domain: domain, Issuer: issuer, DNS: clusterset.DNSMode(f.dns), Values: values, Reset: f.reset}, nil
}

// values are the chart's, the same for every cluster, with their names checked.
func (f installFlags) values() (install.Values, error) {
	extra, err := readValues(f.valueFiles, f.set)
	if err != nil {
		return install.Values{}, err
	}
	out := install.Values{
		Clusterset: f.clusterset, Hub: f.hub, Tag: f.tag, Strict: f.strict, Replicas: f.replicas, GatewayAddresses: f.gateways, AllowServers: f.allowServer,
		Profile: f.profile, Revision: f.revision, Extra: extra,
	}
	if err := install.CheckValues(out.Chart()); err != nil {
		return out, usageError{err}
	}
	return out, nil
}

// isWait tells the steps that take long, or tell something, from those that write one object.
func isWait(step string) bool {
	return strings.HasPrefix(step, "wait") || strings.HasPrefix(step, "image")
}

// targets joins clusters with the names and networks given for them.
func (f installFlags) targets(clusters []*cluster.Cluster) ([]clusterset.Target, error) {
	if len(f.gateways) > 0 && len(clusters) > 1 {
		return nil, usageErrorf("--gateway-address is for one cluster: install one at a time")
	}
	networks, all, err := parseNetworks(f.network)
	if err != nil {
		return nil, err
	}
	used := 0
	primary, err := f.primaryOf(clusters)
	if err != nil {
		return nil, err
	}
	var out []clusterset.Target
	for i, c := range clusters {
		network, ok := networks[c.Context]
		if ok {
			used++
		} else {
			network = all
		}
		name, ok := f.names[c.Context]
		if ok {
			used++
		}
		target := clusterset.Target{Cluster: c, Name: name, Network: network}
		if f.primary != "" || f.topology == topologyPrimaryRemote && i > 0 {
			target.Primary = primary
		}
		out = append(out, target)
	}
	if used != len(networks)+len(f.names) {
		return nil, usageErrorf("--cluster-name or --network names a context that is not among those to install")
	}
	return out, nil
}

// Topologies that install knows.
const (
	topologyMultiPrimary  = "multi-primary"
	topologyPrimaryRemote = "primary-remote"
)

// primaryOf returns the cluster that serves the remotes among clusters, or nil
// where there are none.
func (f installFlags) primaryOf(clusters []*cluster.Cluster) (*cluster.Cluster, error) {
	switch {
	case f.topology != "" && f.topology != topologyMultiPrimary && f.topology != topologyPrimaryRemote:
		return nil, usageErrorf("--topology is %s or %s, not %q", topologyMultiPrimary, topologyPrimaryRemote, f.topology)
	case f.topology == topologyMultiPrimary && f.primary != "":
		return nil, usageErrorf("--primary makes remotes: it does not go with --topology %s", topologyMultiPrimary)
	case f.primary != "":
		return f.opened, nil
	case f.topology != topologyPrimaryRemote:
		return nil, nil
	case len(clusters) < 2:
		return nil, usageErrorf("--topology %s takes the primary's context and then those of its remotes", topologyPrimaryRemote)
	}
	return clusters[0], nil
}

// parseNetworks reads NAME (for all) and CONTEXT=NAME.
func parseNetworks(given []string) (byContext map[string]string, all string, err error) {
	byContext = map[string]string{}
	for _, g := range given {
		context, name, ok := strings.Cut(g, "=")
		switch {
		case !ok && all == "":
			all, name = g, g
		case !ok:
			return nil, "", usageErrorf("--network is given twice for all clusters: %s and %s", all, g)
		default:
			byContext[context] = name
		}
		if !trust.ValidCluster(name) {
			return nil, "", usageErrorf("network name %q is not a DNS label", name)
		}
	}
	return byContext, all, nil
}

func printInstalled(w io.Writer, results []clusterset.Result, contexts []string) error {
	for _, r := range results {
		state := "installed"
		if r.Before {
			state = "was installed; brought up to date"
		}
		fmt.Fprintf(w, "cluster %s (context %s, network %s): %s\n", r.Cluster, r.Context, r.Network, state)
		fmt.Fprintf(w, "  DNS: %s\n", r.DNS.Message)
		if r.DNS.Next != "" {
			fmt.Fprintf(w, "  to do: %s\n", r.DNS.Next)
		}
		for _, warning := range r.DNS.Warnings {
			fmt.Fprintf(w, "  look: %s\n", warning)
		}
	}
	next := "isthmus link " + strings.Join(contexts, " ")
	if len(contexts) == 1 {
		next += " OTHER-CONTEXT"
	}
	_, err := fmt.Fprintf(w, "next: %s\n", next)
	return err
}
