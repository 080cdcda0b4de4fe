package clusterset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/install/coredns"
	"github.com/isthmus-mesh/isthmus/install/release"
	"github.com/isthmus-mesh/isthmus/trust"
)

// Target is one cluster to install in.
type Target struct {
	Cluster *cluster.Cluster
	Name    string // in the clusterset; empty: as installed, else the context's name
	Network string // empty: as installed, else the cluster's name
	// Primary makes it a remote: it has no control plane, that one's serves it. It is
	// installed already or another target. nil: a primary.
	Primary *cluster.Cluster
}

// InstallOptions says what to install. Values holds what is the same everywhere;
// its Cluster, Network, TrustDomain and CA are filled here.
type InstallOptions struct {
	Targets  []Target
	Domain   trust.Domain
	Issuer   *Issuer
	Values   install.Values
	Reset    bool                       // forget the chart's values that earlier installations were given
	DNS      DNSMode                    // empty means DNSAuto
	Progress func(cluster, step string) // may be nil; called from several goroutines
}

// Result is one cluster's installation.
type Result struct {
	Context string `json:"context"`
	Cluster string `json:"cluster"`
	Network string `json:"network"`
	Primary string `json:"primary,omitempty"` // that serves it; empty: a primary itself
	// Before says whether the cluster had an installation already.
	Before bool `json:"before"`
	// Revision is that of the Helm release.
	Revision int `json:"revision"`
	// DNS says whether the names of the clusterset resolve in the cluster.
	DNS coredns.Report `json:"dns"`
}

// ErrName is wrapped by errors about the name of a cluster.
var ErrName = errors.New("cluster name")

// Install installs in all targets at once, after everything that can be checked
// before has been, and waits until all is available. It may be run again.
func Install(ctx context.Context, opts InstallOptions) ([]Result, error) {
	plans, err := plan(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := tryImages(ctx, plans, opts); err != nil {
		return nil, err
	}
	results := make([]Result, len(plans))
	for _, remotes := range []bool{false, true} { // a remote needs its primary
		group, ctx := errgroup.WithContext(ctx)
		for i, p := range plans {
			if remotes != (p.primary != nil) {
				continue
			}
			results[i] = Result{Context: p.cluster.Context, Cluster: p.values.Cluster, Network: p.values.Network, Primary: p.values.Primary, Before: p.before}
			group.Go(func() (err error) {
				results[i].DNS, results[i].Revision, err = p.run(ctx, opts)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return results, err
		}
	}
	return results, nil
}

// Plan returns the values with which Install would install in its only target, which it leaves as it is.
func Plan(ctx context.Context, opts InstallOptions) (install.Values, error) {
	plans, err := plan(ctx, opts)
	if err != nil {
		return install.Values{}, err
	}
	if len(plans) != 1 {
		return install.Values{}, errors.New("plan one cluster at a time")
	}
	values := plans[0].values
	if !opts.Reset {
		values.Base, err = release.Values(ctx, plans[0].cluster.Config, "")
	}
	return values, err
}

// step is what is done in one cluster.
type step struct {
	cluster *cluster.Cluster
	values  install.Values
	before  bool
	primary *cluster.Cluster // of a remote: who serves it
}

func plan(ctx context.Context, opts InstallOptions) ([]step, error) {
	if opts.Issuer.Single() && len(opts.Targets) > 1 {
		return nil, errors.New("one intermediate is for one cluster: install one at a time")
	}
	var plans []step
	seen := map[string]string{}
	for _, target := range opts.Targets {
		p, err := planOne(ctx, target, opts)
		if err != nil {
			return nil, err
		}
		if other, ok := seen[p.values.Cluster]; ok {
			return nil, fmt.Errorf("%w: contexts %s and %s would both be %q", ErrName, other, target.Cluster.Context, p.values.Cluster)
		}
		seen[p.values.Cluster] = target.Cluster.Context
		plans = append(plans, p)
	}
	return withPrimaries(ctx, plans, opts)
}

func planOne(ctx context.Context, target Target, opts InstallOptions) (step, error) {
	c := target.Cluster
	have, err := Find(ctx, c)
	if err != nil {
		return step{}, err
	}
	values := opts.Values
	values.TrustDomain = opts.Domain.String()
	if have == nil {
		have = &Installed{}
	}
	id, err := Property(ctx, c, PropertyID)
	if err != nil {
		return step{}, err
	}
	values.Cluster = cmp.Or(target.Name, have.Cluster, id, c.Context)
	values.Network = cmp.Or(target.Network, have.Network, values.Cluster)
	switch {
	case !trust.ValidCluster(values.Cluster):
		return step{}, fmt.Errorf("%w: %q of context %s is not a DNS label", ErrName, values.Cluster, c.Context)
	case have.Cluster != "" && have.Cluster != values.Cluster:
		return step{}, fmt.Errorf("%w: context %s is installed as %q and cannot become %q", ErrName, c.Context, have.Cluster, values.Cluster)
	case id != "" && id != values.Cluster:
		return step{}, otherID(c.Context, id, values.Cluster, have.Cluster != "")
	case have.TrustDomain != "" && have.TrustDomain != values.TrustDomain:
		return step{}, fmt.Errorf("context %s has the trust domain %q, which cannot become %q", c.Context, have.TrustDomain, values.TrustDomain)
	}
	if err := primaryOf(target, have); err != nil {
		return step{}, err
	}
	if target.Primary != nil {
		values.CA = &install.CA{Bundle: opts.Issuer.Bundle}
		asRemote(&values)
		return step{cluster: c, values: values, before: have.Cluster != "", primary: target.Primary}, nil
	}
	material, err := readCA(ctx, c, api.CASecretName)
	if err != nil {
		return step{}, err
	}
	if values.CA, err = opts.Issuer.Intermediate(values.Cluster, opts.Domain, material); err != nil {
		return step{}, fmt.Errorf("context %s: %w", c.Context, err)
	}
	return step{cluster: c, values: values, before: have.Cluster != ""}, nil
}

// tryImages is the last check before anything is changed anywhere.
func tryImages(ctx context.Context, plans []step, opts InstallOptions) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range plans {
		group.Go(func() error {
			if err := release.Try(ctx, p.release(opts)); err != nil {
				return fmt.Errorf("context %s: %w", p.cluster.Context, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// release is what is made of p.
func (p step) release(opts InstallOptions) release.Options {
	return release.Options{Config: p.cluster.Config, Values: p.values, Reset: opts.Reset, Progress: opts.say(p.values.Cluster)}
}

// say returns what tells of the steps in a cluster.
func (o InstallOptions) say(cluster string) install.Progress {
	return func(text string) {
		if o.Progress != nil {
			o.Progress(cluster, text)
		}
	}
}

func (p step) run(ctx context.Context, opts InstallOptions) (dns coredns.Report, revision int, err error) {
	say := opts.say(p.values.Cluster)
	if err := install.ApplyCRDs(ctx, p.cluster.Config); err != nil { // CoreDNS needs them, too
		return dns, 0, fmt.Errorf("install in %s: %w", p.cluster.Context, err)
	}
	outer := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if dns, err = configureDNS(ctx, p.cluster, opts.DNS, say); err != nil {
			return fmt.Errorf("let CoreDNS of %s serve the clusterset: %w", p.cluster.Context, err)
		}
		return nil
	})
	group.Go(func() error {
		made, err := release.Apply(ctx, p.release(opts))
		if err != nil {
			return fmt.Errorf("install in %s: %w", p.cluster.Context, err)
		}
		revision = made.Revision
		say("wait for the east-west gateway's address")
		wait := gatewayWait{patience: 2 * time.Minute, notice: 30 * time.Second, say: say}
		_, err = wait.addresses(ctx, p.cluster, api.SystemNamespace)
		return err
	})
	if p.primary != nil {
		group.Go(func() error { return p.serve(ctx, opts, say) })
	}
	if err = group.Wait(); err == nil && p.primary != nil { // writes dns and revision
		err = p.proveServed(outer)
	}
	return dns, revision, err
}
