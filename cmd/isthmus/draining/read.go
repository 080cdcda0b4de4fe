package draining

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// links returns the links of a cluster by the cluster that each reads.
func links(ctx context.Context, c *cluster.Cluster) (map[string]v1alpha1.ClusterLink, error) {
	list, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the links of %s: %w", c.Context, err)
	}
	out := map[string]v1alpha1.ClusterLink{}
	for i := range list.Items {
		var l v1alpha1.ClusterLink
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &l); err != nil {
			return nil, fmt.Errorf("read link %s of %s: %w", list.Items[i].GetName(), c.Context, err)
		}
		out[l.Spec.Cluster] = l
	}
	return out, nil
}

// proxies returns the running pods of c with a sidecar, and its gateways.
func proxies(ctx context.Context, c *cluster.Cluster) ([]corev1.Pod, error) {
	list, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", c.Context, err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && (p.Annotations[api.AnnotationInjected] != "" || isGateway(&p)) {
			out = append(out, p)
		}
	}
	return out, nil
}

func isGateway(p *corev1.Pod) bool {
	return p.Namespace == api.SystemNamespace && p.Labels[api.LabelGateway] != ""
}

// servedServices returns the services, NAMESPACE/NAME, that lead to ready pods
// with a sidecar, and the pods of each.
func servedServices(ctx context.Context, c *cluster.Cluster) (map[string][]string, error) {
	pods, err := proxies(ctx, c)
	if err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for i := range pods {
		if p := &pods[i]; p.Annotations[api.AnnotationInjected] != "" && cluster.Ready(p) {
			ready[p.Namespace+"/"+p.Name] = true
		}
	}
	slices, err := c.Kube.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "!=" + api.ManagedBy})
	if err != nil {
		return nil, fmt.Errorf("list slices of %s: %w", c.Context, err)
	}
	out := map[string][]string{}
	for _, s := range slices.Items {
		name := s.Labels[discoveryv1.LabelServiceName]
		if name == "" {
			continue
		}
		service := s.Namespace + "/" + name
		for _, e := range s.Endpoints {
			if e.TargetRef == nil || !ready[s.Namespace+"/"+e.TargetRef.Name] {
				continue
			}
			out[service] = append(out[service], s.Namespace+"/"+e.TargetRef.Name)
		}
	}
	return out, nil
}

// serviceOf turns NAME.NAMESPACE.svc.ZONE into NAMESPACE/NAME; ok is false for any
// other name. local says that it is the cluster's own name.
func serviceOf(host string) (service string, local, ok bool) {
	parts := strings.SplitN(host, ".", 3)
	if len(parts) != 3 {
		return "", false, false
	}
	zone, ok := strings.CutPrefix(parts[2], "svc.")
	return parts[1] + "/" + parts[0], zone == api.ZoneCluster, ok
}
