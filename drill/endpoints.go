package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// ErrUnsafe is wrapped by errors of a scenario's check.
var ErrUnsafe = errors.New("unsafe")

// LocalEndpoints is the loss of all pods of a service in one cluster: its
// deployments are scaled to 0, and back. elsewhere asks whether the service has
// somewhere to go.
func LocalEndpoints(ctx context.Context, c *cluster.Cluster, clusterName, namespace, service string, elsewhere func(ctx context.Context) error) (Scenario, error) {
	names, err := deployments(ctx, c, namespace, service)
	if err != nil {
		return Scenario{}, err
	}
	before := map[string]int32{} // replicas by deployment; filled by the check, so that a break half-way is undone
	return Scenario{
		Name: "local-endpoints",
		What: fmt.Sprintf("scale %s in %s to 0", strings.Join(names, ", "), clusterName),
		Check: func(ctx context.Context) error {
			for _, name := range names {
				scale, err := c.Kube.AppsV1().Deployments(namespace).GetScale(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				before[name] = scale.Spec.Replicas
			}
			return elsewhere(ctx)
		},
		Break: func(ctx context.Context) error {
			for _, name := range names {
				if _, err := c.Scale(ctx, namespace, name, 0); err != nil {
					return err
				}
			}
			return nil
		},
		Restore: func(ctx context.Context) error {
			var errs error
			for _, name := range slices.Sorted(maps.Keys(before)) {
				_, err := c.Scale(ctx, namespace, name, before[name])
				errs = errors.Join(errs, err)
			}
			return errs
		},
	}, nil
}

// deployments returns the names of those whose pods the service selects.
func deployments(ctx context.Context, c *cluster.Cluster, namespace, service string) ([]string, error) {
	svc, err := c.Kube.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read service %s/%s in %s: %w", namespace, service, c.Context, err)
	}
	if len(svc.Spec.Selector) == 0 {
		return nil, fmt.Errorf("%w: service %s/%s in %s has no selector", ErrUnsafe, namespace, service, c.Context)
	}
	list, err := c.Kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list deployments of %s in %s: %w", namespace, c.Context, err)
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	names := selected(list.Items, selector)
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no deployment in %s stands behind service %s/%s", ErrUnsafe, c.Context, namespace, service)
	}
	return names, nil
}

func selected(list []appsv1.Deployment, selector labels.Selector) []string {
	var names []string
	for _, d := range list {
		if selector.Matches(labels.Set(d.Spec.Template.Labels)) && (d.Spec.Replicas == nil || *d.Spec.Replicas > 0) {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}
