//go:build conformance

package conformance

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// scale changes how many pods the workload of c has.
func (f *fixture) scale(c *cluster, n int) {
	f.Helper()
	var o client.Object = &appsv1.Deployment{}
	if _, ok := f.workload.(*appsv1.StatefulSet); ok {
		o = &appsv1.StatefulSet{}
	}
	o.SetNamespace(f.namespace)
	o.SetName(helloName)
	f.must(c.Patch(f.Context(), o, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
}

// annotate sets an annotation of c's export, or takes it off where value is empty.
func (f *fixture) annotate(c *cluster, key, value string) {
	f.Helper()
	o := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: helloName}}
	f.must(c.Patch(f.Context(), o, patch("annotations", key, value)))
}

func (f *fixture) labelNamespace(c *cluster, key, value string) {
	f.Helper()
	f.must(c.Patch(f.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}, patch("labels", key, value)))
}

func patch(field, key, value string) client.Patch {
	word := text(value)
	if value == "" {
		word = "null"
	}
	return client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{%q:{%q:%s}}}`, field, key, word))
}

// ready waits until the export of c is Ready with all words in its message.
func (f *fixture) ready(c *cluster, words ...string) {
	f.Helper()
	f.condition(c, mcsv1beta1.ServiceExportConditionReady, metav1.ConditionTrue, words...)
}

// pods wants n running pods of the service in c, ready or not.
func (f *fixture) pods(ctx context.Context, c *cluster, n int) error {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(f.namespace), client.MatchingLabels(helloLabels())); err != nil {
		return err
	}
	running := 0
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	return same(running, n)
}

// serviceSlices are those that Kubernetes makes of the service itself.
func (f *fixture) serviceSlices(ctx context.Context, c *cluster) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := c.List(ctx, &list, client.InNamespace(f.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: helloName})
	return list.Items, err
}
