package meshstatus

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/primary/ads"
)

// Debug opens the debug view of each ready control plane pod of c in turn, of every revision, and hands it to
// use: each replica knows its own proxies only.
func Debug(ctx context.Context, c *cluster.Cluster, use func(pod string, view *cluster.Tunnel) error) error {
	return DebugRevisions(ctx, c, func(_, pod string, view *cluster.Tunnel) error { return use(pod, view) })
}

// DefaultRevision is what the first control plane of a cluster is called beside others.
const DefaultRevision = "default"

// DebugRevisions is Debug with the name of the pod's revision.
func DebugRevisions(ctx context.Context, c *cluster.Cluster, use func(revision, pod string, view *cluster.Tunnel) error) error {
	pods, err := c.Pods(ctx, api.SystemNamespace, "app="+api.ControlPlaneName)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return errors.New("no pod of the control plane is running")
	}
	more, err := c.Pods(ctx, api.SystemNamespace, api.LabelRevision)
	if err != nil {
		return err
	}
	var errs error
	for _, pod := range append(pods, more...) {
		if !cluster.Ready(&pod) {
			continue
		}
		revision := cmp.Or(pod.Labels[api.LabelRevision], DefaultRevision)
		errs = errors.Join(errs, withView(ctx, c, pod.Name, func(pod string, view *cluster.Tunnel) error { return use(revision, pod, view) }))
	}
	return errs
}

func withView(ctx context.Context, c *cluster.Cluster, pod string, use func(string, *cluster.Tunnel) error) error {
	view, err := c.Forward(ctx, api.SystemNamespace, pod, api.PortAdmin)
	if err != nil {
		return err
	}
	defer view.Close()
	return use(pod, view)
}

func (out *Cluster) readProxies(ctx context.Context, c *cluster.Cluster) error {
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		return err
	}
	for _, pod := range pods.Items {
		if pod.Annotations[api.AnnotationInjected] != "" && pod.DeletionTimestamp == nil {
			out.Proxies.Injected++
		}
	}
	if out.home == nil {
		return nil
	}
	return DebugRevisions(ctx, out.home, func(revision, _ string, view *cluster.Tunnel) error {
		proxies, err := ProxiesOf(ctx, view, out.Cluster)
		if err != nil {
			return err
		}
		out.Proxies.Connected += len(proxies)
		for i := range out.Revisions {
			if out.Revisions[i].Name == revision {
				out.Revisions[i].Connected += len(proxies)
			}
		}
		for _, p := range proxies {
			if Refuses(p) {
				out.Proxies.Refusing++
			}
		}
		out.Problems = nil // all replicas see the same ones
		return view.GetJSON(ctx, "/debug/problems?cluster="+url.QueryEscape(out.Cluster), &out.Problems)
	})
}

// Proxies asks a control plane for the proxies that are connected to it.
func Proxies(ctx context.Context, view *cluster.Tunnel) ([]ads.ProxyStatus, error) {
	var proxies []ads.ProxyStatus
	err := view.GetJSON(ctx, "/debug/proxies", &proxies)
	return proxies, err
}

// ProxiesOf is Proxies of one cluster, which may be a remote that the control plane serves.
func ProxiesOf(ctx context.Context, view *cluster.Tunnel, name string) ([]ads.ProxyStatus, error) {
	var proxies []ads.ProxyStatus
	err := view.GetJSON(ctx, "/debug/proxies?cluster="+url.QueryEscape(name), &proxies)
	return proxies, err
}

// Refuses reports whether the proxy did not take something that it was sent.
func Refuses(p ads.ProxyStatus) bool {
	return slices.ContainsFunc(p.Types, func(t ads.TypeStatus) bool { return len(t.Refused) > 0 })
}
