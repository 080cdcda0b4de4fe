package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// TryImages finds out whether a node can get the images of the Deployments in objs, before anything depends on them: those that no pod of
// Namespace runs already are run once, in one pod that is gone after. One that cannot be had is an ImageError. Where nobody
// lets such a pod be made, or no node takes it, progress says so and nothing is found out: the rollout will tell. Namespace must be
// there.
func TryImages(ctx context.Context, kube kubernetes.Interface, objs []*unstructured.Unstructured, progress Progress) error {
	images, err := imagesOf(objs)
	if err != nil {
		return err
	}
	have, err := runningImages(ctx, kube)
	if err != nil {
		return err
	}
	images = slices.DeleteFunc(images, func(c corev1.Container) bool { return have[c.Image] })
	if len(images) == 0 {
		return nil
	}
	if err := waitAccount(ctx, kube); err != nil {
		return err
	}
	return try(ctx, kube, images, progress)
}

// imagesOf returns a container for each image of the Deployments in objs, in their order, that has it say its version and that Pod Security
// "restricted" lets be.
func imagesOf(objs []*unstructured.Unstructured) ([]corev1.Container, error) {
	var out []corev1.Container
	for _, obj := range objs {
		if obj.GetKind() != "Deployment" {
			continue
		}
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &d); err != nil {
			return nil, fmt.Errorf("read %s: %w", title(obj), err)
		}
		for _, c := range slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers) {
			if slices.ContainsFunc(out, func(o corev1.Container) bool { return o.Image == c.Image }) {
				continue
			}
			out = append(out, corev1.Container{
				Name: fmt.Sprintf("image-%d", len(out)), Image: c.Image, ImagePullPolicy: c.ImagePullPolicy, Args: []string{"--version"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			})
		}
	}
	return out, nil
}

// trial is the pod in which images are tried.
func trial(images []corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "isthmus-images-", Namespace: Namespace,
			Labels: map[string]string{LabelPartOf: PartOf, "sidecar.istio.io/inject": "false"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
			TerminationGracePeriodSeconds: new(int64(1)), ActiveDeadlineSeconds: new(int64(600)), // where nobody is left to delete it
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: images,
		},
	}
}

// runningImages are those that ready containers of Namespace run, by the names that they were asked for.
func runningImages(ctx context.Context, kube kubernetes.Interface) (map[string]bool, error) {
	pods, err := kube.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", Namespace, err)
	}
	out := map[string]bool{}
	for _, p := range pods.Items {
		if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
			for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
				out[c.Image] = true
			}
		}
	}
	return out, nil
}

// waitAccount waits until Namespace has the account without which no pod can be made in it: a moment after it was made. What else
// may be wrong with it, making a pod tells.
func waitAccount(ctx context.Context, kube kubernetes.Interface) error {
	_ = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := kube.CoreV1().ServiceAccounts(Namespace).Get(ctx, "default", metav1.GetOptions{})
		return !apierrors.IsNotFound(err), nil
	})
	return ctx.Err()
}

// try runs images until all are there, and deletes the pod.
func try(ctx context.Context, kube kubernetes.Interface, images []corev1.Container, progress Progress) (err error) {
	pods := kube.CoreV1().Pods(Namespace)
	progress.say("wait until a node has %s", names(images))
	made, err := pods.Create(ctx, trial(images), metav1.CreateOptions{})
	if apierrors.IsForbidden(err) {
		progress.say("images cannot be tried: %v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("try images: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if gone := pods.Delete(ctx, made.Name, metav1.DeleteOptions{}); gone != nil && !apierrors.IsNotFound(gone) {
			err = errors.Join(err, fmt.Errorf("delete pod %s of %s: %w", made.Name, Namespace, gone))
		}
	}()
	last := "not read yet"
	err = wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		p, err := pods.Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			last = err.Error()
			return apierrors.IsNotFound(err), nil // somebody has deleted it
		}
		if last = unscheduled(p); last != "" {
			progress.say("images cannot be tried: %s", last)
			return true, nil
		}
		last, err = unpulled(p)
		return last == "", err
	})
	if err != nil && ctx.Err() != nil {
		return errors.Join(fmt.Errorf("try images: pod %s: %s", made.Name, last), context.Cause(ctx))
	}
	return err
}

// names lists images in one line.
func names(images []corev1.Container) string {
	var out []string
	for _, c := range images {
		out = append(out, c.Image)
	}
	return strings.Join(out, " and ")
}

// unpulled says which images of a trial are not there yet; "" where there is nothing more to learn. The error is an ImageError.
func unpulled(p *corev1.Pod) (string, error) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return "", nil
	}
	if len(p.Status.ContainerStatuses) < len(p.Spec.Containers) {
		return "no node has started it", nil
	}
	missing := ""
	for _, s := range p.Status.ContainerStatuses {
		w := s.State.Waiting
		if w == nil {
			continue
		}
		switch {
		case slices.Contains(imageReasons, w.Reason):
			return "", ImageError{Pod: p.Name, Image: s.Image, Reason: w.Reason, Message: w.Message}
		case w.Reason == "" || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing":
			missing = s.Image + " is not there yet"
		} // else it is there, and does not start as this pod
	}
	return missing, nil
}
