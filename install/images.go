package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// TryImages finds out whether nodes can get the images of the Deployments in objs, before anything depends on them: each that no pod of
// Namespace runs already is run once, in a pod of its own that is gone after. One that cannot be had is an ImageError. Where
// nobody lets such a pod be made, or no node takes it, progress says so and nothing is found out: the rollout will tell.
// Namespace must be there. Progress is called from several goroutines.
func TryImages(ctx context.Context, kube kubernetes.Interface, objs []*unstructured.Unstructured, progress Progress) error {
	trials, err := imageTrials(objs)
	if err != nil {
		return err
	}
	have, err := runningImages(ctx, kube)
	if err != nil {
		return err
	}
	trials = slices.DeleteFunc(trials, func(p corev1.Pod) bool { return have[p.Spec.Containers[0].Image] })
	if len(trials) == 0 {
		return nil
	}
	if err := waitAccount(ctx, kube); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, pod := range trials {
		group.Go(func() error { return tryImage(ctx, kube, &pod, progress) })
	}
	return group.Wait()
}

// imageTrials returns a pod for each image of the Deployments in objs, in their order: on such a node as theirs, but without
// their rights, volumes and work.
func imageTrials(objs []*unstructured.Unstructured) ([]corev1.Pod, error) {
	var out []corev1.Pod
	seen := map[string]bool{}
	for _, obj := range objs {
		if obj.GetKind() != "Deployment" {
			continue
		}
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &d); err != nil {
			return nil, fmt.Errorf("read %s: %w", title(obj), err)
		}
		spec := d.Spec.Template.Spec
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if !seen[c.Image] {
				seen[c.Image] = true
				out = append(out, imageTrial(spec, c))
			}
		}
	}
	return out, nil
}

// imageTrial returns a pod in which the image of c says its version, which Pod Security "restricted" lets be.
func imageTrial(like corev1.PodSpec, c corev1.Container) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "isthmus-image-", Namespace: Namespace,
			Labels: map[string]string{LabelPartOf: PartOf, "sidecar.istio.io/inject": "false"},
		},
		Spec: corev1.PodSpec{
			NodeSelector: like.NodeSelector, Tolerations: like.Tolerations, Affinity: like.Affinity, ImagePullSecrets: like.ImagePullSecrets,
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
			TerminationGracePeriodSeconds: new(int64(1)), ActiveDeadlineSeconds: new(int64(600)), // where nobody is left to delete it
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: c.Name, Image: c.Image, ImagePullPolicy: c.ImagePullPolicy, Args: []string{"--version"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
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

// tryImage runs pod until its image is there, and deletes it.
func tryImage(ctx context.Context, kube kubernetes.Interface, pod *corev1.Pod, progress Progress) (err error) {
	image, pods := pod.Spec.Containers[0].Image, kube.CoreV1().Pods(Namespace)
	progress.say("wait until a node has image %s", image)
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) {
		progress.say("image %s cannot be tried: %v", image, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("try image %s: %w", image, err)
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
		found, missing, err := pulled(p)
		if last = missing; found && missing != "" {
			progress.say("image %s cannot be tried: %s", image, missing)
		}
		return found, err
	})
	if err != nil && ctx.Err() != nil {
		return errors.Join(fmt.Errorf("try image %s: pod %s: %s", image, made.Name, last), context.Cause(ctx))
	}
	return err
}

// pulled reports whether there is nothing more to learn from a trial, and what is missing. The error is an ImageError.
func pulled(p *corev1.Pod) (done bool, missing string, err error) {
	for _, s := range p.Status.ContainerStatuses {
		switch w := s.State.Waiting; {
		case w == nil:
			return true, "", nil
		case slices.Contains(imageReasons, w.Reason):
			return true, "", ImageError{Pod: p.Name, Image: p.Spec.Containers[0].Image, Reason: w.Reason, Message: w.Message}
		case w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing":
			return true, "", nil // it is there, and does not start as this pod
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return true, c.Message, nil
		}
	}
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed, "no node has started it", nil
}
