package meshstatus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Patience is how long one cluster may take to answer everything.
const Patience = 15 * time.Second

// Collect asks all clusters at once. One that does not answer is part of the
// report; it is no error.
func Collect(ctx context.Context, clusters []*cluster.Cluster) Report {
	report := Report{Time: time.Now().UTC(), Clusters: make([]Cluster, len(clusters)), Healthy: len(clusters) > 0}
	homes := newHomes(clusters)
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, Patience)
			defer cancel()
			report.Clusters[i] = collect(ctx, c, homes)
		})
	}
	wg.Wait()
	for _, c := range report.Clusters {
		report.Healthy = report.Healthy && c.healthy()
	}
	return report
}

func collect(ctx context.Context, c *cluster.Cluster, homes *homes) Cluster {
	out := Cluster{Context: c.Context, Links: []Link{}, Exports: []Export{}, Imports: []Import{}}
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	if installed == nil {
		out.Error = "the mesh is not installed"
		return out
	}
	out.Primary = installed.Primary
	if out.home = homes.of(ctx, c, installed); out.home == nil {
		out.Notes = append(out.Notes, fmt.Sprintf("control plane: it is that of cluster %s: name its context, too", installed.Primary))
	}
	out.Cluster, out.Network, out.TrustDomain, out.Tag = installed.Cluster, installed.Network, installed.TrustDomain, installed.Tag
	for what, read := range map[string]func(context.Context, *cluster.Cluster) error{
		"version":       out.readVersion,
		"drain":         out.readDrain,
		"control plane": out.readWorkloads,
		"gateway":       out.readGateway,
		"entry gateway": out.readEntry,
		"links":         out.readLinks,
		"exports":       out.readExports,
		"imports":       out.readImports,
		"drill":         out.readDrill,
	} {
		if err := read(ctx, c); err != nil {
			out.Notes = append(out.Notes, fmt.Sprintf("%s: %v", what, err))
		}
	}
	if err := out.readProxies(ctx, c); err != nil { // when the revisions are known
		out.Notes = append(out.Notes, fmt.Sprintf("proxies: %v", err))
	}
	slices.Sort(out.Notes)
	return out
}

func (out *Cluster) readDrill(ctx context.Context, c *cluster.Cluster) error {
	note, err := drill.ReadNote(ctx, c)
	if err != nil || note == nil {
		return err
	}
	out.Drill = note.String()
	if !note.Running(time.Now()) {
		out.Drill += "; without a sign of life since " + note.Seen.UTC().Format(time.RFC3339) + ", so isthmus drill restore"
	}
	return nil
}

func (out *Cluster) readVersion(ctx context.Context, c *cluster.Cluster) (err error) {
	out.Version, err = c.Version(ctx)
	return err
}

func (out *Cluster) readDrain(ctx context.Context, c *cluster.Cluster) error {
	n, err := c.Kube.CoreV1().Namespaces().Get(ctx, api.SystemNamespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	d, err := federation.ParseDrain(n.Annotations[api.AnnotationDrain])
	if d != nil {
		out.Drain = &Drain{Stage: string(d.Stage), Share: d.Share, Since: d.Since}
	}
	return err
}

func (out *Cluster) readWorkloads(ctx context.Context, c *cluster.Cluster) (err error) {
	if out.home != nil {
		if out.ControlPlane, err = workload(ctx, out.home, api.ControlPlaneName); err != nil {
			return err
		}
	}
	if err := out.readRevisions(ctx, c); err != nil {
		return err
	}
	out.Gateway.Workload, err = workload(ctx, c, api.EastWestName)
	if apierrors.IsNotFound(err) {
		return nil // installed without a gateway
	}
	return err
}

func (out *Cluster) readRevisions(ctx context.Context, c *cluster.Cluster) error {
	list, err := c.Kube.AppsV1().Deployments(api.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelRevision})
	if err != nil {
		return err
	}
	for i := range list.Items {
		d := &list.Items[i]
		r := Revision{Name: d.Labels[api.LabelRevision], Workload: workloadOf(d)}
		if _, tag, ok := strings.Cut(d.Spec.Template.Spec.Containers[0].Image, ":"); ok {
			r.Tag = tag
		}
		out.Revisions = append(out.Revisions, r)
	}
	return nil
}

func workload(ctx context.Context, c *cluster.Cluster, name string) (Workload, error) {
	d, err := c.Kube.AppsV1().Deployments(api.SystemNamespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Workload{}, err
	}
	return workloadOf(d), nil
}

func workloadOf(d *appsv1.Deployment) Workload {
	w := Workload{Ready: d.Status.ReadyReplicas, Want: 1}
	if d.Spec.Replicas != nil {
		w.Want = *d.Spec.Replicas
	}
	return w
}

func (out *Cluster) readGateway(ctx context.Context, c *cluster.Cluster) (err error) {
	out.Gateway.Addresses, err = clusterset.GatewaysNow(ctx, c, api.SystemNamespace)
	return err
}
