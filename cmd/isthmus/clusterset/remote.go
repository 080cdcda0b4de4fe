package clusterset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// primaryOf decides who serves the target, and refuses what cannot become it.
func primaryOf(target Target, have *Installed) error {
	context := target.Cluster.Context
	switch {
	case target.Primary == nil && have.Primary != "":
		return refuseInstall(context, "ServedElsewhere", "isthmus install "+context+" --primary CONTEXT-OF-"+have.Primary,
			"it is a remote that cluster %s serves, and no primary was named", have.Primary)
	case target.Primary != nil && have.Cluster != "" && have.Primary == "":
		return refuseInstall(context, "HasControlPlane", "isthmus uninstall "+context+", then install it as a remote",
			"it has a control plane of its own, so it cannot become a remote")
	case target.Primary != nil && target.Primary.Context == context:
		return refuseInstall(context, "OwnPrimary", "name another context by --primary", "it cannot be its own remote")
	}
	return nil
}

// asRemote sets what the chart is told of a remote. A key does not go there: who
// serves it, signs for it.
func asRemote(values *install.Values) {
	values.CA = &install.CA{Bundle: values.CA.Bundle}
	values.Extra = with(values.Extra, "controlPlane", "enabled", false)
}

// asPrimary opens the gateway for remotes.
func asPrimary(values *install.Values) {
	values.Extra = with(values.Extra, "gateway", "controlPlane", true)
}

// with returns a copy of values with one more, section.key.
func with(values map[string]any, section, key string, value any) map[string]any {
	out := maps.Clone(values)
	if out == nil {
		out = map[string]any{}
	}
	inner := map[string]any{}
	if have, ok := out[section].(map[string]any); ok {
		inner = maps.Clone(have)
	}
	inner[key] = value
	out[section] = inner
	return out
}

// withPrimaries names the primaries of all remotes: those that are installed in this
// run, else what is there already. The gateway of each is opened for remotes, so
// that one which is not yet is installed once more, as it is.
func withPrimaries(ctx context.Context, plans []step, opts InstallOptions) ([]step, error) {
	for i := range plans {
		if plans[i].primary == nil {
			continue
		}
		at := slices.IndexFunc(plans, func(p step) bool { return p.cluster.Context == plans[i].primary.Context })
		if at < 0 {
			name, open, err := openPrimary(ctx, plans[i].primary, plans[i].cluster.Context)
			if err != nil {
				return nil, err
			}
			plans[i].values.Primary = name
			if open {
				continue
			}
			again, err := planOne(ctx, Target{Cluster: plans[i].primary}, opts.unchanged())
			if err != nil {
				return nil, err
			}
			plans, at = append(plans, again), len(plans)
		}
		plans[i].values.Primary = plans[at].values.Cluster
		asPrimary(&plans[at].values)
	}
	return plans, nil
}

// unchanged are the options that install a cluster again as it is.
func (opts InstallOptions) unchanged() InstallOptions {
	v := opts.Values
	opts.Values = install.Values{Clusterset: v.Clusterset, Hub: v.Hub, Tag: v.Tag, PullPolicy: v.PullPolicy, AllowServers: v.AllowServers}
	return opts
}

// openPrimary returns the name of what is installed in c, and whether its gateway lets
// remotes through.
func openPrimary(ctx context.Context, c *cluster.Cluster, remote string) (name string, open bool, err error) {
	found, err := Find(ctx, c)
	if err != nil {
		return "", false, err
	}
	switch {
	case found == nil:
		return "", false, refuseInstall(c.Context, "NotInstalled", fmt.Sprintf("isthmus install %s %s --topology primary-remote", c.Context, remote), "the mesh is not installed, so it can serve nobody")
	case found.Primary != "":
		return "", false, refuseInstall(c.Context, "NoControlPlane", "name the context of cluster "+found.Primary, "it is a remote itself, served by %s", found.Primary)
	}
	_, closed := controllers.FindDoor(ctx, c.Kube, api.SystemNamespace)
	return found.Cluster, closed == nil, nil
}

func refuseInstall(context, reason, next, format string, args ...any) error {
	return CheckError{What: "installed", Finding: join.Finding{Context: context, Reason: reason, Next: next, Message: fmt.Sprintf(format, args...)}}
}

// material is what a primary signs with for the remote: what is there, or new.
func (opts InstallOptions) material(ctx context.Context, p step) (*install.CA, error) {
	have, err := readCA(ctx, p.primary, api.ServesSecretPrefix+p.values.Cluster)
	if err != nil {
		return nil, err
	}
	made, err := opts.Issuer.Intermediate(p.values.Cluster, opts.Domain, have)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", p.cluster.Context, err)
	}
	return made, nil
}

// serve lets the primary serve the remote as soon as the remote has been written: its
// gateway becomes ready by that, which the installation waits for.
func (p step) serve(ctx context.Context, opts InstallOptions, say func(string)) error {
	ca, err := opts.material(ctx, p)
	if err != nil {
		return err
	}
	if err := p.written(ctx); err != nil {
		return err
	}
	say("wait for the control plane of " + p.values.Primary)
	primary := side(p.primary, p.values.Primary, "")
	remote := side(p.cluster, p.values.Cluster, p.values.Network)
	options := join.Options{AllowServers: opts.Values.AllowServers}
	if err := join.Serve(ctx, primary, remote, join.Material{Chain: ca.Chain, Key: ca.Key, Bundle: ca.Bundle}, options); err != nil {
		return fmt.Errorf("let %s serve %s: %w", p.values.Primary, p.values.Cluster, err)
	}
	return nil
}

// written waits until the release's objects are there.
func (p step) written(ctx context.Context) error {
	return cluster.Until(ctx, "the objects of "+p.cluster.Context, func(ctx context.Context) (string, error) {
		_, err := p.cluster.Kube.CoreV1().Services(api.SystemNamespace).Get(ctx, api.ControlPlaneName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "they are being written", nil
		}
		return "", err
	})
}

// side is an installed cluster as remote/join takes it, with the address that its context
// in the kubeconfig has for other clusters, if any.
func side(c *cluster.Cluster, name, network string) join.Side {
	s := join.Side{Context: c.Context, Config: c.Config, Cluster: name, Network: network}
	if c.Raw != nil {
		s.Server = join.ServerOf(c.Raw, c.Context)
	}
	return s
}

// readCA reads an intermediate from the Secret of that name; nil where there is none.
func readCA(ctx context.Context, c *cluster.Cluster, name string) (*install.CA, error) {
	s, err := c.Kube.CoreV1().Secrets(api.SystemNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read intermediate in %s: %w", c.Context, err)
	}
	return caOf(s), nil
}

func caOf(s *corev1.Secret) *install.CA {
	return &install.CA{Chain: s.Data[api.CAChainKey], Key: s.Data[api.CAKeyKey], Bundle: s.Data[api.CABundleKey]}
}

// proveServed waits until the control plane of the remote is at work in it: it has
// been elected there, and its way home is known.
func (p step) proveServed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return cluster.Until(ctx, "the control plane of "+p.values.Primary+" in "+p.cluster.Context, func(ctx context.Context) (string, error) {
		lease, err := p.cluster.Kube.CoordinationV1().Leases(api.SystemNamespace).Get(ctx, api.ControlPlaneName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "nobody has been elected there yet; the log of isthmusd in " + p.primary.Context + " says why", nil
		}
		if err != nil {
			return "", err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return "nobody leads there", nil
		}
		return "", nil
	})
}
