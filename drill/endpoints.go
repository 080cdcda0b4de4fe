package drill

import (
	"context"
	"errors"
	"fmt"
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
	changes, err := ScaleAway(ctx, c, namespace, service)
	if err != nil {
		return Scenario{}, err
	}
	var names []string
	for _, change := range changes {
		names = append(names, change.Name)
	}
	s := Scenario{
		Name:  "local-endpoints",
		What:  fmt.Sprintf("scale %s in %s to 0", strings.Join(names, ", "), clusterName),
		Check: elsewhere,
	}
	return s.Of(changes, Hands{Open: func(string) (*cluster.Cluster, error) { return c, nil }}), nil
}

// Of gives the scenario the break and the restore that changes are.
func (s Scenario) Of(changes []Change, h Hands) Scenario {
	s.Break = func(ctx context.Context) error { return Make(ctx, h, changes) }
	s.Restore = func(ctx context.Context) error { return Undo(ctx, h, changes) }
	return s
}

// ScaleAway returns the changes that take all pods of a service in c away.
func ScaleAway(ctx context.Context, c *cluster.Cluster, namespace, service string) ([]Change, error) {
	names, err := deployments(ctx, c, namespace, service)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, name := range names {
		change, err := ScaleTo(ctx, c, namespace, name, 0)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// ScaleTo returns the change that gives a deployment other replicas than it has.
func ScaleTo(ctx context.Context, c *cluster.Cluster, namespace, name string, replicas int32) (Change, error) {
	scale, err := c.Kube.AppsV1().Deployments(namespace).GetScale(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Change{}, fmt.Errorf("read the scale of %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	return Change{Kind: KindScale, Context: c.Context, Namespace: namespace, Name: name, Before: scale.Spec.Replicas, To: replicas}, nil
}

// SharedWith returns the other services of the namespace whose pods the same deployments run.
func SharedWith(ctx context.Context, c *cluster.Cluster, namespace, service string, changes []Change) ([]string, error) {
	services, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list services of %s in %s: %w", namespace, c.Context, err)
	}
	list, err := c.Kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list deployments of %s in %s: %w", namespace, c.Context, err)
	}
	var out []string
	for _, svc := range services.Items {
		if svc.Name == service || len(svc.Spec.Selector) == 0 {
			continue
		}
		behind := selected(list.Items, labels.SelectorFromSet(svc.Spec.Selector))
		if slices.ContainsFunc(changes, func(c Change) bool { return c.Namespace == namespace && slices.Contains(behind, c.Name) }) {
			out = append(out, svc.Name)
		}
	}
	slices.Sort(out)
	return out, nil
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
