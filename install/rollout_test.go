package install_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// An image that a node cannot get ends the wait at once, and is named; what else holds a rollout back is said when time is up. The test
// stands in for kubelet, which writes these statuses.
func TestWaitRollout(t *testing.T) {
	env := testenv.Start(t, testenv.WithControllers())
	kube, ns := env.Client(t), env.Namespace(t)
	labels := map[string]string{"app": "x"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "x"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: "nowhere/x:v9"}}},
		}},
	}
	if _, err := kube.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := install.WaitRollout(short, kube, ns, "x"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for Deployment "+ns+"/x: 1 of 1 replicas updated, 0 available: pod x-") {
		t.Errorf("without nodes: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- install.WaitRollout(t.Context(), kube, ns, "x") }()
	pods, err := kube.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	pod := &pods.Items[0]
	waiting := &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not found"}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "x", Image: "nowhere/x:v9", State: corev1.ContainerState{Waiting: waiting}}}
	if _, err := kube.CoreV1().Pods(ns).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if image, ok := errors.AsType[install.ImageError](err); !ok || image.Image != "nowhere/x:v9" || image.Pod != pod.Name {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
}
