//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An upgrade of isthmusd and of the gateways of both clusters, and the way back, while 100 requests a second go each way over the link:
// none fails, and no moment is without a webhook.
func TestUpgradeUnderTraffic(t *testing.T) {
	mesh.Needs(t, Time)
	const there, back = "upgrade", "upgrade-back"
	east := exportedEcho(t, there, mesh.West)
	exportedEcho(t, back, mesh.East)
	west := NewCaller(t, mesh.West, back)
	urls := []string{"http://echo." + there + ".svc.clusterset.local", "http://echo." + back + ".svc.clusterset.local"}
	east.Reaches(t, urls[0], time.Minute, "west")
	west.Reaches(t, urls[1], time.Minute, "east")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := mesh.Install(ctx, "--tag", "dev"); err != nil {
			t.Error(err)
		}
	})

	loads := []*Load{east.Traffic(t, urls[0], 100, 15*time.Minute), west.Traffic(t, urls[1], 100, 15*time.Minute)}
	webhook := watchWebhooks(t, there)
	for _, tag := range []string{"next", "dev"} {
		for _, l := range loads {
			l.Flowing(200)
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		if err := mesh.Install(ctx, "--tag", tag, "--timeout", "4m"); err != nil {
			t.Fatal(err)
		}
		cancel()
		for _, c := range mesh.Clusters() {
			c.onlyTag(t, tag, 1)
		}
		t.Logf("to tag %s in %.0f s, until the last pod of the old has gone", tag, time.Since(begin).Seconds())
	}
	for i, l := range loads {
		l.Flowing(200)
		records := l.Stop()
		t.Logf("%s: %d requests", urls[i], len(records))
		if lost := failures(records); lost != "" {
			t.Errorf("%s: %s", urls[i], lost)
		}
	}
	if n, lost := webhook(); len(lost) > 0 {
		t.Errorf("%d of %d pods were refused: %s", len(lost), n, strings.Join(lost[:min(3, len(lost))], "; "))
	} else {
		t.Logf("%d pods were injected meanwhile", n)
	}
}

// onlyTag waits until every pod of the mesh has images of that tag, is ready, and none is about to go: replicas of isthmusd and
// of the east-west gateway, and the entry gateway.
func (c *Cluster) onlyTag(t *testing.T, tag string, replicas int) {
	t.Helper()
	Eventually(t, 3*time.Minute, c.Name+" runs only "+tag, func(ctx context.Context) error {
		pods, err := c.Kube.CoreV1().Pods("isthmus-system").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		want := replicas + 1
		if c.IsPrimary() {
			want += replicas
		}
		if len(pods.Items) != want {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		for _, p := range pods.Items {
			if image := p.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+tag) || !isReady(&p) {
				return fmt.Errorf("pod %s has %s, ready %v", p.Name, image, isReady(&p))
			}
		}
		return nil
	})
}

// watchWebhooks asks the API servers of both clusters, ten times a second, what they would make of a new pod in namespace. The function
// that it returns ends that, and says how many were asked for and which came to nothing.
func watchWebhooks(t *testing.T, namespace string) func() (asked int, lost []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	done := make(chan struct{})
	var asked int
	var lost []string
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, c := range mesh.Clusters() {
				begin := time.Now()
				if err := c.wouldInject(ctx, namespace); err != nil && ctx.Err() == nil {
					lost = append(lost, fmt.Sprintf("%s %s: %v", c.Name, begin.Format("15:04:05.000"), err))
				}
				asked++
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	return func() (int, []string) {
		stop()
		<-done
		return asked, lost
	}
}

// wouldInject makes a pod without keeping it.
func (c *Cluster) wouldInject(ctx context.Context, namespace string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "try-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "isthmus-mesh/isthmus-samples:dev"}}}}
	made, err := c.Kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if made.Annotations["isthmus.dev/injected"] == "" {
		return fmt.Errorf("it got no sidecar")
	}
	return nil
}
