package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/version"
)

// poll is how often a condition is looked at.
const poll = 250 * time.Millisecond

// Until asks look until it returns "", or the context ends; then the error says
// what was missing last. Errors of look are taken as missing.
func Until(ctx context.Context, what string, look func(context.Context) (missing string, err error)) error {
	last := "not looked at yet"
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		missing, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return false, nil // keep what was missing before
		case err != nil:
			last = err.Error()
			return false, nil
		}
		last = missing
		return missing == "", nil
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("wait for %s: %s: %w", what, last, context.Cause(ctx))
}

// WaitDeployments waits until all replicas of each deployment are updated and available.
func (c *Cluster) WaitDeployments(ctx context.Context, namespace string, names ...string) error {
	for _, name := range names {
		err := Until(ctx, fmt.Sprintf("deployment %s/%s in %s", namespace, name, c.Context), func(ctx context.Context) (string, error) {
			d, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if missing := missingReplicas(d); missing != "" {
				return missing + c.why(ctx, d), nil
			}
			return "", nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func missingReplicas(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return "not observed yet"
	case s.UpdatedReplicas < want || s.AvailableReplicas < want || s.Replicas > want:
		return fmt.Sprintf("%d of %d replicas available", min(s.UpdatedReplicas, s.AvailableReplicas), want)
	}
	return ""
}

// why says what holds up a deployment, as far as its conditions and pods tell;
// it is only for people, so errors give nothing.
func (c *Cluster) why(ctx context.Context, d *appsv1.Deployment) string {
	for _, cond := range d.Status.Conditions {
		if cond.Type == appsv1.DeploymentReplicaFailure && cond.Status == corev1.ConditionTrue {
			return ": " + cond.Message
		}
	}
	pods, err := c.Kube.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		return ""
	}
	for _, pod := range pods.Items {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
				return fmt.Sprintf(": %s/%s: %s %s", pod.Name, s.Name, w.Reason, w.Message)
			}
			if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
				return fmt.Sprintf(": %s/%s ended with code %d %s", pod.Name, s.Name, t.ExitCode, t.Message)
			}
		}
	}
	return ""
}

// Pods returns the running pods that selector matches, sorted by name; those
// that are ready come first.
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	list, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list pods %s in %s/%s: %w", selector, c.Context, namespace, err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning
	})
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		switch ra, rb := Ready(&a), Ready(&b); {
		case ra == rb:
			return 0
		case ra:
			return -1
		}
		return 1
	})
	return pods, nil
}

// Ready reports whether the pod's condition says so.
func Ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Scale sets the replicas of a deployment and returns how many it had.
func (c *Cluster) Scale(ctx context.Context, namespace, name string, replicas int32) (before int32, err error) {
	deployments := c.Kube.AppsV1().Deployments(namespace)
	now, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("read scale of %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	want := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}
	if _, err := deployments.UpdateScale(ctx, name, want, metav1.UpdateOptions{FieldManager: FieldOwner}); err != nil {
		return 0, fmt.Errorf("scale %s/%s in %s to %d: %w", namespace, name, c.Context, replicas, err)
	}
	return now.Spec.Replicas, nil
}

// Version returns the version of the API server, such as v1.36.3.
func (c *Cluster) Version(ctx context.Context) (string, error) {
	body, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return "", err
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("read version of %s: %w", c.Context, err)
	}
	return info.GitVersion, nil
}
