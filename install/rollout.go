package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// ImageError says that a node cannot get the image of a pod.
type ImageError struct {
	Pod, Image      string
	Reason, Message string // kubelet's
}

func (e ImageError) Error() string {
	return fmt.Sprintf("pod %s: image %s cannot be had: %s: %s", e.Pod, e.Image, e.Reason, e.Message)
}

// imageReasons are kubelet's reasons for a container that waits for an image which does not come.
var imageReasons = []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}

// WaitRollout waits until the Deployment's latest form is all there is of it: every replica
// updated and available, none of the old left. An image that cannot be had ends the wait at once, with
// an ImageError; when ctx ends, the error says what was missing last.
func WaitRollout(ctx context.Context, kube kubernetes.Interface, namespace, name string) error {
	last := "not read yet"
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		d, err := kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		missing := ""
		if err == nil {
			missing, err = unrolled(ctx, kube, d)
		}
		switch {
		case err == nil:
			last = missing
		case ctx.Err() == nil && !strings.Contains(err.Error(), "context deadline"): // client-go's own limit sees the end before it comes
			last = err.Error()
		}
		if image, ok := errors.AsType[ImageError](err); ok {
			return false, image
		}
		if err != nil {
			return false, nil
		}
		return last == "", nil
	})
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("wait for Deployment %s/%s", namespace, name)
	if image, ok := errors.AsType[ImageError](err); ok {
		return fmt.Errorf("%s: %w", what, image)
	}
	return errors.Join(fmt.Errorf("%s: %s", what, last), context.Cause(ctx))
}

// unrolled says what is missing until d is rolled out; "" where nothing is.
func unrolled(ctx context.Context, kube kubernetes.Interface, d *appsv1.Deployment) (string, error) {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return "not observed yet", nil
	case s.UpdatedReplicas >= want && s.AvailableReplicas >= want && s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%d old replicas still there", s.Replicas-s.UpdatedReplicas), nil
	case s.UpdatedReplicas >= want && s.AvailableReplicas >= want:
		return "", nil
	}
	text := fmt.Sprintf("%d of %d replicas updated, %d available", s.UpdatedReplicas, want, s.AvailableReplicas)
	held, err := heldBack(ctx, kube, d)
	if held != "" {
		text += ": " + held
	}
	return text, err
}

// heldBack returns what holds a pod of the Deployment's latest form back, shortly; "" where nothing is known.
func heldBack(ctx context.Context, kube kubernetes.Interface, d *appsv1.Deployment) (string, error) {
	hash, err := latestHash(ctx, kube, d)
	if err != nil || hash == "" {
		return "", err
	}
	pods, err := kube.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: appsv1.DefaultDeploymentUniqueLabelKey + "=" + hash})
	if err != nil {
		return "", err
	}
	var held string
	for _, p := range pods.Items {
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			w := c.State.Waiting
			if w == nil {
				continue
			}
			if slices.Contains(imageReasons, w.Reason) {
				return "", ImageError{Pod: p.Name, Image: c.Image, Reason: w.Reason, Message: w.Message}
			}
			if w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
				held = fmt.Sprintf("container %s of pod %s: %s %s", c.Name, p.Name, w.Reason, w.Message)
			}
		}
		if why := unscheduled(&p); why != "" {
			held = fmt.Sprintf("pod %s: %s", p.Name, why)
		}
	}
	return held, nil
}

// unscheduled says why no node takes p; "" where that is not so.
func unscheduled(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return cmp.Or(c.Message, c.Reason, "no node takes it")
		}
	}
	return ""
}

// latestHash returns the label that the pods of d's latest form bear; "" while there is none.
func latestHash(ctx context.Context, kube kubernetes.Interface, d *appsv1.Deployment) (string, error) {
	const revision = "deployment.kubernetes.io/revision"
	sets, err := kube.AppsV1().ReplicaSets(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		return "", err
	}
	for i := range sets.Items {
		s := &sets.Items[i]
		if metav1.IsControlledBy(s, d) && s.Annotations[revision] == d.Annotations[revision] {
			return s.Labels[appsv1.DefaultDeploymentUniqueLabelKey], nil
		}
	}
	return "", nil
}
