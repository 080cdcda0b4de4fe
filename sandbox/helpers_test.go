package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/isthmus-mesh/isthmus/sandbox"
	"github.com/isthmus-mesh/isthmus/sandbox/build"
)

// programs returns a folder with the sandbox's programs and the tests' own.
func programs(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	root, err := build.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.MkdirTemp("", "isthmus-bin-") // not t.TempDir: others must be able to read it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(bin) })
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range build.Sandbox() {
		path, err := build.Ensure(ctx, root, program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, program.Name)); err != nil {
			t.Fatal(err)
		}
	}
	buildProbe(t, bin, "one")
	return bin
}

func buildProbe(t testing.TB, bin, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", filepath.Join(bin, "probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v\n%s", err, text)
	}
}

// up starts a sandbox that ends with the test.
func up(t testing.TB, opts sandbox.Options) *sandbox.Sandbox {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "sandbox")
	}
	if opts.Bin == "" {
		opts.Bin = programs(t)
	}
	opts.DieWithParent = true
	opts.Progress = func(e sandbox.Event) { t.Logf("%5.1fs %s %s", e.Elapsed.Seconds(), e.Cluster, e.Step) }
	s, err := sandbox.Up(t.Context(), opts)
	if err != nil {
		if strings.Contains(err.Error(), "make namespaces") {
			t.Skipf("this host does not let sandboxes be made: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A cluster is one cluster of the sandbox under test.
type cluster struct {
	*kubernetes.Clientset
	t       testing.TB
	sandbox *sandbox.Sandbox
	name    string
}

func in(t testing.TB, s *sandbox.Sandbox, name string) *cluster {
	t.Helper()
	config, err := s.Config(name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{client, t, s, name}
}

// pod is a pod that runs the probe, of the app of its name.
func pod(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "main", Image: "isthmus-mesh/probe:test", Args: args, ImagePullPolicy: corev1.PullIfNotPresent,
			}},
		},
	}
}

// server is a pod that serves on 8080 and says when it does.
func server(name string) *corev1.Pod {
	p := pod(name, "serve", "8080")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		PeriodSeconds: 1,
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}},
	}
	return p
}

// start makes a pod and waits until it is ready; it goes with the test.
func (c *cluster) start(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	c.create(p)
	var got *corev1.Pod
	c.wait(p.Name+" to be ready", func() error {
		var err error
		if got, err = c.CoreV1().Pods("default").Get(c.t.Context(), p.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, condition := range got.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("status %+v", got.Status)
	})
	return got
}

func (c *cluster) create(p *corev1.Pod) {
	c.t.Helper()
	pods := c.CoreV1().Pods("default")
	c.wait("creation of "+p.Name, func() error { // the default account comes a moment after the API server
		_, err := pods.Create(c.t.Context(), p, metav1.CreateOptions{})
		return err
	})
	c.t.Cleanup(func() {
		_ = pods.Delete(context.Background(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
}

// expose makes a Service for the app name, from port 80 to 8080.
func (c *cluster) expose(name string, kind corev1.ServiceType) *corev1.Service {
	c.t.Helper()
	services := c.CoreV1().Services("default")
	svc, err := services.Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: kind, Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = services.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	if kind != corev1.ServiceTypeLoadBalancer {
		return svc
	}
	c.wait("address of "+name, func() error {
		if svc, err = services.Get(c.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("no address yet")
		}
		return nil
	})
	return svc
}

// run runs the probe in a pod and returns what it wrote and its exit code.
func (c *cluster) run(pod string, args ...string) (string, int) {
	c.t.Helper()
	config, err := c.sandbox.Config(c.name)
	if err != nil {
		c.t.Fatal(err)
	}
	request := c.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: append([]string{"/probe"}, args...), Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, request.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	var out, problem bytes.Buffer
	err = executor.StreamWithContext(c.t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &problem})
	code := 0
	if exit, ok := err.(utilexec.CodeExitError); ok { //nolint:errorlint // returned as it is
		code = exit.Code
	} else if err != nil {
		c.t.Fatalf("exec in %s: %v", pod, err)
	}
	return out.String() + problem.String(), code
}

// reaches says whether a pod gets an answer from url.
func (c *cluster) reaches(pod, url string) bool {
	c.t.Helper()
	_, code := c.run(pod, "get", url)
	return code == 0
}

// wait tries until do succeeds.
func (c *cluster) wait(what string, do func() error) {
	c.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("wait for %s: %v", what, err)
		}
		select {
		case <-c.t.Context().Done():
			c.t.Fatalf("wait for %s: %v", what, c.t.Context().Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
