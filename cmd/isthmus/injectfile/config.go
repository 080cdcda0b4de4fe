package injectfile

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// ReadConfig returns what the control plane of c tells each pod that it injects,
// from its Deployment. That of a remote is its primary's, in another cluster;
// primary is nil where nobody named one.
func ReadConfig(ctx context.Context, c, primary *cluster.Cluster) (webhook.Config, error) {
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		return webhook.Config{}, err
	}
	if installed == nil {
		return webhook.Config{}, fmt.Errorf("context %s: %w", c.Context, clusterset.ErrNotInstalled)
	}
	if installed.Primary != "" {
		if err := checkPrimary(ctx, c, primary, installed.Primary); err != nil {
			return webhook.Config{}, err
		}
		c = primary
	}
	d, err := c.Kube.AppsV1().Deployments(api.SystemNamespace).Get(ctx, api.ControlPlaneName, metav1.GetOptions{})
	if err != nil {
		return webhook.Config{}, fmt.Errorf("read control plane in %s: %w", c.Context, err)
	}
	cfg := webhook.Config{
		Cluster: installed.Cluster, Network: installed.Network, TrustDomain: installed.TrustDomain, DiscoveryCluster: installed.Cluster,
		Discovery: fmt.Sprintf("%s.%s.svc:%d", api.ControlPlaneName, api.SystemNamespace, api.PortDiscovery),
		Dataplane: "builtin", PullPolicy: corev1.PullIfNotPresent,
	}
	err = fill(&cfg, &d.Spec.Template.Spec)
	return cfg, err
}

// checkPrimary says what is wrong with primary, where the one that serves c is the cluster of that name.
func checkPrimary(ctx context.Context, c, primary *cluster.Cluster, name string) error {
	if primary == nil {
		return fmt.Errorf("context %s is a remote: name the context of its primary, cluster %s, by --primary", c.Context, name)
	}
	found, err := clusterset.Find(ctx, primary)
	if err != nil {
		return err
	}
	if found == nil || found.Cluster != name {
		return fmt.Errorf("context %s is served by cluster %s, which context %s is not: name another by --primary", c.Context, name, primary.Context)
	}
	return nil
}

// fill takes over the control plane's flags and environment.
func fill(cfg *webhook.Config, pod *corev1.PodSpec) error {
	for _, container := range pod.Containers {
		if container.Name != api.ControlPlaneName {
			continue
		}
		for _, arg := range container.Args {
			name, value, _ := strings.Cut(arg, "=")
			switch name {
			case "--proxy-image":
				cfg.Image = value
			case "--proxy-pull-policy":
				cfg.PullPolicy = corev1.PullPolicy(value)
			case "--dataplane":
				cfg.Dataplane = value
			}
		}
		for _, e := range container.Env {
			if e.Name != "SIDECAR_RESOURCES" || e.Value == "" {
				continue
			}
			if err := json.Unmarshal([]byte(e.Value), &cfg.Resources); err != nil {
				return fmt.Errorf("read the sidecars' resources: %w", err)
			}
		}
	}
	return nil
}
