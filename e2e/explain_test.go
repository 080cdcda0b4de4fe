//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// explain prints pods that are not ready, their events and last log lines, in the system
// namespace and in the one given.
func (c *Cluster) explain(w io.Writer, namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, ns := range []string{"isthmus-system", namespace} {
		if ns == "" {
			continue
		}
		pods, err := c.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			fmt.Fprintf(w, "%s: list pods: %v\n", c.Name, err)
			return
		}
		for _, p := range pods.Items {
			fmt.Fprintf(w, "%s: pod %s/%s %s ready=%v ip=%s\n", c.Name, ns, p.Name, p.Status.Phase, isReady(&p), p.Status.PodIP)
			c.explainPod(ctx, w, &p)
		}
		events, err := c.Kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for _, e := range events.Items {
			if e.Type != corev1.EventTypeNormal {
				fmt.Fprintf(w, "%s: event %s %s: %s: %s\n", c.Name, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
			}
		}
	}
}

func (c *Cluster) explainPod(ctx context.Context, w io.Writer, p *corev1.Pod) {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Ready && p.Namespace != "isthmus-system" && s.Name != "isthmus-proxy" {
			continue
		}
		out, err := c.Kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: s.Name, TailLines: new(int64(25))}).DoRaw(ctx)
		if err != nil {
			fmt.Fprintf(w, "  %s: %v\n", s.Name, err)
			continue
		}
		fmt.Fprintf(w, "  -- %s (restarts %d)\n%s", s.Name, s.RestartCount, out)
	}
}
