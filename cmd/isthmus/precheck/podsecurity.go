package precheck

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// PodSecurity finds the namespaces that are labelled for sidecars, and whose Pod
// Security refuses every pod that has one. They are warnings: users, namespaces
// and runtime classes may be exempt by a file of the API server, which nobody can ask for.
func PodSecurity(ctx context.Context, c *cluster.Cluster) []Finding {
	const what = "Pod Security"
	list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return []Finding{{Where: c.Context, What: what, State: Warn, Message: fmt.Sprintf("namespaces cannot be read: %v", err), Next: "use a context that may list namespaces"}}
	}
	var out []Finding
	labelled := 0
	for _, ns := range list.Items {
		if !wantsSidecars(ns.Labels) {
			continue
		}
		labelled++
		if level := webhook.ForbiddenBy(ns.Labels); level != "" {
			out = append(out, Finding{
				Where: c.Context, What: what, State: Warn,
				Message: fmt.Sprintf("namespace %s enforces %q, which refuses pods with a sidecar: it needs NET_ADMIN to redirect the pod's traffic, and no CNI plugin does that here", ns.Name, level),
				Next:    strings.Replace(webhook.AllowPods(ns.Name), "kubectl", "kubectl --context "+c.Context, 1),
			})
		}
	}
	if len(out) == 0 {
		out = []Finding{{Where: c.Context, What: what, State: OK, Message: fmt.Sprintf("refuses sidecars in none of %d namespaces that are labelled for them", labelled)}}
	}
	return out
}

// wantsSidecars reports whether a namespace's labels ask for sidecars in its pods,
// of whatever revision.
func wantsSidecars(labels map[string]string) bool {
	if labels[api.LabelIstioInject] == "disabled" || labels[api.LabelInject] == "false" {
		return false
	}
	return labels[api.LabelIstioInject] == "enabled" || labels[api.LabelInject] == "true" || labels["istio.io/rev"] != ""
}
