package clusterset

import (
	"context"
	"fmt"
	"maps"
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

// Profiles of the chart that a topology asks for, where the user names no other.
const (
	profilePrimary = "primary"
	profileRemote  = "remote"
)

// role is what a cluster is to the others in an installation.
type role struct {
	primary *cluster.Cluster // of a remote: who serves it
	serves  bool             // a primary that remotes are installed for
}

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
func asRemote(values *install.Values, primary string) {
	values.Primary = primary
	if values.Profile == "" {
		values.Profile = profileRemote
	}
	values.CA = &install.CA{Bundle: values.CA.Bundle}
	values.Extra = with(values.Extra, "controlPlane", "enabled", false)
}

// asPrimary opens the gateway for remotes.
func asPrimary(values *install.Values) {
	if values.Profile == "" {
		values.Profile = profilePrimary
	}
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

// namePrimaries replaces contexts by cluster names: of those that are installed in
// this run, else of what is there, whose gateway must be open for remotes.
func namePrimaries(ctx context.Context, plans []step) error {
	names := map[string]string{}
	for _, p := range plans {
		names[p.cluster.Context] = p.values.Cluster
	}
	for i := range plans {
		p := &plans[i]
		if p.role.primary == nil {
			continue
		}
		name, now := names[p.role.primary.Context]
		if !now {
			found, err := openPrimary(ctx, p.role.primary, p.cluster.Context)
			if err != nil {
				return err
			}
			name = found
		}
		p.values.Primary = name
		for j := range plans {
			if plans[j].cluster.Context == p.role.primary.Context && !plans[j].role.serves {
				plans[j].role.serves = true
				asPrimary(&plans[j].values)
			}
		}
	}
	return nil
}

func openPrimary(ctx context.Context, c *cluster.Cluster, remote string) (string, error) {
	found, err := Find(ctx, c)
	if err != nil {
		return "", err
	}
	switch {
	case found == nil:
		return "", refuseInstall(c.Context, "NotInstalled", fmt.Sprintf("isthmus install %s %s --topology primary-remote", c.Context, remote), "the mesh is not installed, so it can serve nobody")
	case found.Primary != "":
		return "", refuseInstall(c.Context, "NoControlPlane", "name the context of cluster "+found.Primary, "it is a remote itself, served by %s", found.Primary)
	}
	if _, err := controllers.FindDoor(ctx, c.Kube, api.SystemNamespace); err != nil {
		return "", refuseInstall(c.Context, "GatewayClosed", "isthmus install "+c.Context+" --set gateway.controlPlane=true", "its gateway lets no remote through: %v", err)
	}
	return found.Cluster, nil
}

func refuseInstall(context, reason, next, format string, args ...any) error {
	return CheckError{What: "installed", Finding: join.Finding{Context: context, Reason: reason, Next: next, Message: fmt.Sprintf(format, args...)}}
}

// material is what a primary signs with for the remote: what is there, or new.
func (opts InstallOptions) material(ctx context.Context, p step) (*install.CA, error) {
	have, err := readCA(ctx, p.role.primary, api.ServesSecretPrefix+p.values.Cluster)
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
	primary := side(p.role.primary, p.values.Primary, "")
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
			return "nobody has been elected there yet; the log of isthmusd in " + p.role.primary.Context + " says why", nil
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
