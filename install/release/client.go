package release

import (
	"context"
	"fmt"
	"slices"
	"time"

	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
)

// client is Helm's, with an order of its own for what is there already: isthmusd first, and the
// gateways when it has been rolled out, so that no gateway is newer than what it asks. Its wait
// says what it waits for, and does not wait for an image that nobody has.
type client struct {
	kube.Interface
	kube     kubernetes.Interface
	ctx      context.Context // of the one action that this client is made for
	progress install.Progress
	wait     bool
}

// Update writes target in two steps, and waits in between. Gateways that are not there yet come with the first: they wait
// for isthmusd by themselves.
func (c client) Update(original, target kube.ResourceList, options ...kube.ClientUpdateOption) (*kube.Result, error) {
	c.say(target)
	later := func(r *resource.Info) bool { return isGateway(r) && original.Contains(r) && target.Contains(r) }
	first, last := target.Filter(not(later)), target.Filter(later)
	result, err := c.Interface.Update(original.Filter(not(later)), first, options...)
	if err != nil || len(last) == 0 {
		return result, err
	}
	if c.wait {
		if err := c.rollout(first); err != nil {
			return result, err
		}
	}
	more, err := c.Interface.Update(original.Filter(later), last, options...)
	result.Created = append(result.Created, more.Created...)
	result.Updated = append(result.Updated, more.Updated...)
	result.Deleted = append(result.Deleted, more.Deleted...)
	return result, err
}

// Create writes everything at once.
func (c client) Create(resources kube.ResourceList, options ...kube.ClientCreateOption) (*kube.Result, error) {
	c.say(resources)
	return c.Interface.Create(resources, options...)
}

func (c client) say(resources kube.ResourceList) {
	for _, r := range resources {
		if c.progress != nil {
			c.progress("apply " + title(r))
		}
	}
}

// GetWaiter returns our own, whatever strategy is asked for.
func (c client) GetWaiter(kube.WaitStrategy) (kube.Waiter, error) { return waiter{c}, nil }

// rollout waits for every Deployment of resources, isthmusd first.
func (c client) rollout(resources kube.ResourceList) error {
	deployments := resources.Filter(func(r *resource.Info) bool { return kind(r) == "Deployment" })
	slices.SortStableFunc(deployments, func(a, b *resource.Info) int { return last(a) - last(b) })
	for _, d := range deployments {
		if c.progress != nil {
			c.progress("wait for " + title(d))
		}
		if err := install.WaitRollout(c.ctx, c.kube, d.Namespace, d.Name); err != nil {
			return err
		}
	}
	return nil
}

// waiter is how a client waits. The action's context bounds it, not the timeout.
type waiter struct{ client client }

func (w waiter) Wait(resources kube.ResourceList, _ time.Duration) error {
	if !w.client.wait {
		return nil
	}
	return w.client.rollout(resources)
}

func (w waiter) WaitWithJobs(resources kube.ResourceList, timeout time.Duration) error {
	return w.Wait(resources, timeout) // the chart has no Job
}

// WaitForDelete waits for nothing: what is deleted by Helm goes by itself.
func (w waiter) WaitForDelete(kube.ResourceList, time.Duration) error { return nil }

// WatchUntilReady is for hooks, and the chart has none.
func (w waiter) WatchUntilReady(kube.ResourceList, time.Duration) error { return nil }

func isGateway(r *resource.Info) bool { return kind(r) == "Deployment" && last(r) == 1 }

// last is 1 for a Deployment that is written after the others.
func last(r *resource.Info) int {
	if r.Name == api.EastWestName || r.Name == api.EntryName {
		return 1
	}
	return 0
}

func not(f func(*resource.Info) bool) func(*resource.Info) bool {
	return func(r *resource.Info) bool { return !f(r) }
}

func kind(r *resource.Info) string { return r.Mapping.GroupVersionKind.Kind }

func title(r *resource.Info) string {
	if r.Namespace == "" {
		return kind(r) + " " + r.Name
	}
	return fmt.Sprintf("%s %s/%s", kind(r), r.Namespace, r.Name)
}
