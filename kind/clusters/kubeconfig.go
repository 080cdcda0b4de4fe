package clusters

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/kind/topology"
)

// internalServer is the extension of a kubeconfig's cluster entry that holds
// the API server's address as other clusters reach it; the sandbox and isthmus
// link know it by this name.
const internalServer = "isthmus.dev/internal-server"

// kubeconfig is the part of a kubeconfig that we put together; what users and
// clusters hold stays as kind wrote it.
type kubeconfig struct {
	APIVersion     string  `json:"apiVersion"`
	Kind           string  `json:"kind"`
	CurrentContext string  `json:"current-context"`
	Clusters       []entry `json:"clusters"`
	Users          []entry `json:"users"`
	Contexts       []entry `json:"contexts"`
}

type entry struct {
	Name    string         `json:"name"`
	Cluster map[string]any `json:"cluster,omitempty"`
	User    map[string]any `json:"user,omitempty"`
	Context map[string]any `json:"context,omitempty"`
}

// writeKubeconfig joins the clusters' kubeconfigs into one, whose contexts are
// named as the clusters.
func (l Lab) writeKubeconfig(ctx context.Context) error {
	all := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: l.Topology.Clusters[0].Name}
	for _, c := range l.Topology.Clusters {
		if err := l.add(ctx, &all, c); err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", c.Name, err)
		}
	}
	data, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.Kubeconfig), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(l.Kubeconfig+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(l.Kubeconfig+".new", l.Kubeconfig)
}

func (l Lab) add(ctx context.Context, all *kubeconfig, c topology.Cluster) error {
	text, err := l.provider(c.Name).KubeConfig(c.Name, false)
	if err != nil {
		return err
	}
	node, err := address(ctx, c)
	if err != nil {
		return err
	}
	return all.join(c.Name, text, fmt.Sprintf("https://%s:6443", node))
}

// join adds the one cluster of a kubeconfig that kind wrote, under our name,
// with the address of its API server that works from inside other clusters.
func (k *kubeconfig) join(name, text, internal string) error {
	var one kubeconfig
	if err := yaml.Unmarshal([]byte(text), &one); err != nil {
		return err
	}
	if len(one.Clusters) != 1 || len(one.Users) != 1 || one.Clusters[0].Cluster == nil {
		return fmt.Errorf("%d clusters and %d users, want one each", len(one.Clusters), len(one.Users))
	}
	server := one.Clusters[0].Cluster
	server["extensions"] = []map[string]any{{"name": internalServer, "extension": internal}}
	k.Clusters = append(k.Clusters, entry{Name: name, Cluster: server})
	k.Users = append(k.Users, entry{Name: name, User: one.Users[0].User})
	k.Contexts = append(k.Contexts, entry{Name: name, Context: map[string]any{"cluster": name, "user": name}})
	return nil
}
