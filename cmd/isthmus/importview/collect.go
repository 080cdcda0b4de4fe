package importview

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// patience is how long one cluster may take to answer everything.
const patience = 15 * time.Second

// Collect asks all clusters at once, for all services or the one that is named. A cluster that
// does not answer is a note of the report; it is no error.
func Collect(ctx context.Context, clusters []*cluster.Cluster, namespace, name string) Report {
	views, errs := make([]View, len(clusters)), make([]error, len(clusters))
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			views[i], errs[i] = look(ctx, c, namespace)
		})
	}
	wg.Wait()
	var answered []View
	var notes []string
	for i, c := range clusters {
		if errs[i] != nil {
			notes = append(notes, fmt.Sprintf("context %s: %v", c.Context, errs[i]))
			continue
		}
		answered = append(answered, views[i])
	}
	report := Build(time.Now().UTC(), answered, namespace, name)
	report.Notes = append(notes, report.Notes...)
	report.Healthy = report.Healthy && len(notes) == 0
	return report
}

func look(ctx context.Context, c *cluster.Cluster, namespace string) (View, error) {
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		return View{}, err
	}
	if installed == nil {
		return View{}, clusterset.ErrNotInstalled
	}
	v := View{Cluster: installed.Cluster, Network: installed.Network}
	var slicesErr error
	found, err := c.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=isthmus"})
	if err != nil {
		slicesErr = fmt.Errorf("list slices: %w", err)
	} else {
		v.Slices = found.Items
	}
	return v, errors.Join(slicesErr,
		list(ctx, c, "serviceexports", namespace, &v.Exports),
		list(ctx, c, "serviceimports", namespace, &v.Imports))
}

// list reads all objects of a kind of the MCS API.
func list[T any](ctx context.Context, c *cluster.Cluster, kind, namespace string, into *[]T) error {
	found, err := c.Dynamic.Resource(mcsv1beta1.SchemeGroupVersion.WithResource(kind)).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", kind, err)
	}
	*into = slices.Grow(*into, len(found.Items))[:len(found.Items)]
	for i := range found.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Items[i].Object, &(*into)[i]); err != nil {
			return fmt.Errorf("read %s: %w", kind, err)
		}
	}
	return nil
}
