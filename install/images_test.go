package install_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// An image that no node can get is found by running it, one that runs already is not tried, and no trial is left. The test stands in for
// kubelet, which writes these statuses.
func TestTryImages(t *testing.T) {
	env := testenv.Start(t)
	env.EnsureNamespace(t, install.Namespace)
	kube := env.Client(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // a controller's work
	if _, err := kube.CoreV1().ServiceAccounts(install.Namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objs, err := install.Render(install.Values{Cluster: "east", Tag: "v9", CA: &install.CA{Bundle: []byte("bundle")}})
	if err != nil {
		t.Fatal(err)
	}
	const daemon, proxy = "isthmus-mesh/isthmusd:v9", "isthmus-mesh/isthmus-proxy:v9"
	there := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	waits := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "not found"}}
	}
	try := func(want []string, states map[string]corev1.ContainerState) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- install.TryImages(t.Context(), kube, objs, nil) }()
		if tried := answerTrial(t, kube, states); !slices.Equal(tried, want) {
			t.Errorf("tried: %v, want %v", tried, want)
		}
		select {
		case err := <-done:
			if left := trials(t, kube); len(left) > 0 {
				t.Errorf("%d trials are left", len(left))
			}
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("it waits on")
			return nil
		}
	}

	err = try([]string{proxy, daemon}, map[string]corev1.ContainerState{daemon: there, proxy: waits("ErrImagePull")})
	if image, ok := errors.AsType[install.ImageError](err); !ok || image.Image != proxy || image.Message != "not found" {
		t.Errorf("an image that nobody has: %v", err)
	}
	if err := try([]string{proxy, daemon}, map[string]corev1.ContainerState{daemon: there, proxy: waits("CreateContainerError")}); err != nil {
		t.Errorf("an image that does not start as a trial: %v", err)
	}
	if err := try([]string{proxy, daemon}, nil); err != nil {
		t.Errorf("no node takes a trial: %v", err)
	}
	running(t, kube, daemon)
	if err := try([]string{proxy}, map[string]corev1.ContainerState{proxy: there}); err != nil {
		t.Errorf("one image runs already: %v", err)
	}
	running(t, kube, proxy)
	if err := install.TryImages(t.Context(), kube, objs, nil); err != nil {
		t.Errorf("all images run already: %v", err)
	}
}

func trials(t *testing.T, kube kubernetes.Interface) []corev1.Pod {
	t.Helper()
	pods, err := kube.CoreV1().Pods(install.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "sidecar.istio.io/inject=false"})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

// answerTrial waits for the trial, gives each container the state of its image, or says that no node takes it where there are none, and
// returns the images, sorted.
func answerTrial(t *testing.T, kube kubernetes.Interface, states map[string]corev1.ContainerState) []string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := trials(t, kube); len(found) == 1 {
			p := found[0]
			var tried []string
			for _, c := range p.Spec.Containers {
				tried = append(tried, c.Image)
				p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: states[c.Image]})
			}
			if states == nil {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "no node"}}
			}
			if _, err := kube.CoreV1().Pods(install.Namespace).UpdateStatus(t.Context(), &p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(tried)
			return tried
		}
		select {
		case <-deadline:
			t.Fatal("nothing is tried")
		case <-tick.C:
		}
	}
}

// running makes a pod that is ready.
func running(t *testing.T, kube kubernetes.Interface, image string) {
	t.Helper()
	pods := kube.CoreV1().Pods(install.Namespace)
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "running-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: image}}},
	}, metav1.CreateOptions{})
	if err == nil {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		_, err = pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(fmt.Errorf("a pod that runs: %w", err))
	}
}
