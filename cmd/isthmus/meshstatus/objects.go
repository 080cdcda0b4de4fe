package meshstatus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// list reads all objects of a kind into T, decoded.
func list[T any](ctx context.Context, c *cluster.Cluster, kind schema.GroupVersionResource, namespace string) ([]T, error) {
	found, err := c.Dynamic.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := make([]T, len(found.Items))
	for i := range found.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Items[i].Object, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (out *Cluster) readLinks(ctx context.Context, c *cluster.Cluster) error {
	links, err := list[v1alpha1.ClusterLink](ctx, c, v1alpha1.GroupVersion.WithResource("clusterlinks"), api.SystemNamespace)
	if err != nil {
		return err
	}
	for _, l := range links {
		status := l.Status
		status.State = cmp.Or(status.State, v1alpha1.LinkPending)
		out.Links = append(out.Links, Link{Cluster: l.Spec.Cluster, ClusterLinkStatus: status})
	}
	slices.SortFunc(out.Links, func(a, b Link) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return nil
}

// LinkedClusters returns the names of the clusters that c is to read.
func LinkedClusters(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	links, err := list[v1alpha1.ClusterLink](ctx, c, v1alpha1.GroupVersion.WithResource("clusterlinks"), api.SystemNamespace)
	if err != nil {
		return nil, fmt.Errorf("list links in %s: %w", c.Context, err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Spec.Cluster)
	}
	return names, nil
}

// SplitNames reads the value of api.AnnotationExportTo, sorted, each name once; nil where there is none.
func SplitNames(value string) []string {
	var out []string
	for _, name := range strings.Split(value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (out *Cluster) readExports(ctx context.Context, c *cluster.Cluster) error {
	exports, err := list[mcsv1beta1.ServiceExport](ctx, c, mcsv1beta1.SchemeGroupVersion.WithResource("serviceexports"), metav1.NamespaceAll)
	if err != nil {
		return err
	}
	for _, e := range exports {
		out.Exports = append(out.Exports, ExportOf(e))
	}
	return nil
}

// ExportOf reads an export's conditions.
func ExportOf(e mcsv1beta1.ServiceExport) Export {
	x := Export{Namespace: e.Namespace, Name: e.Name, Since: e.CreationTimestamp.UTC()}
	x.To, x.LocalName, x.Entry = SplitNames(e.Annotations[api.AnnotationExportTo]), e.Annotations[api.AnnotationLocalName], e.Annotations[api.AnnotationEntry]
	read := func(kind mcsv1beta1.ServiceExportConditionType, good metav1.ConditionStatus) string {
		cond := meta.FindStatusCondition(e.Status.Conditions, string(kind))
		if cond == nil {
			return ""
		}
		if cond.Status != good && x.Message == "" {
			x.Message = cond.Reason + ": " + cond.Message
		}
		return string(cond.Status)
	}
	x.Valid = read(mcsv1beta1.ServiceExportConditionValid, metav1.ConditionTrue)
	x.Ready = read(mcsv1beta1.ServiceExportConditionReady, metav1.ConditionTrue)
	x.Conflict = read(mcsv1beta1.ServiceExportConditionConflict, metav1.ConditionFalse)
	return x
}

func (out *Cluster) readImports(ctx context.Context, c *cluster.Cluster) error {
	imports, err := list[mcsv1beta1.ServiceImport](ctx, c, mcsv1beta1.SchemeGroupVersion.WithResource("serviceimports"), metav1.NamespaceAll)
	if err != nil {
		return err
	}
	for _, i := range imports {
		out.Imports = append(out.Imports, importOf(i))
	}
	return nil
}

func importOf(i mcsv1beta1.ServiceImport) Import {
	x := Import{Namespace: i.Namespace, Name: i.Name, IPs: i.Spec.IPs}
	for _, from := range i.Status.Clusters {
		x.Clusters = append(x.Clusters, from.Cluster)
	}
	for _, p := range i.Spec.Ports {
		x.Ports = append(x.Ports, p.Port)
	}
	return x
}

// FindImport reads one ServiceImport of c.
func FindImport(ctx context.Context, c *cluster.Cluster, namespace, name string) (Import, error) {
	found, err := c.Dynamic.Resource(mcsv1beta1.SchemeGroupVersion.WithResource("serviceimports")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Import{}, fmt.Errorf("read import %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	var i mcsv1beta1.ServiceImport
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &i); err != nil {
		return Import{}, fmt.Errorf("read import %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	return importOf(i), nil
}
