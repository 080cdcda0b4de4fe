package injectfile

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }, testenv.WithControllers()))
}

// kinds has a pod of each kind, with what injection has to rewrite.
const kinds = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: pod, labels: {app: x}, annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "3306"}}
  spec:
    containers:
    - name: app
      image: example/app:1
      ports: [{name: http, containerPort: 8080}]
      livenessProbe: {httpGet: {port: http}}
      readinessProbe: {grpc: {port: 9000}, timeoutSeconds: 5}
      startupProbe: {tcpSocket: {port: 8080}}
      lifecycle: {preStop: {httpGet: {port: http, path: /bye}}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: deployment}
  spec:
    selector: {matchLabels: {app: d}}
    template:
      metadata: {labels: {app: d}}
      spec:
        initContainers: [{name: migrate, image: example/app:1}, {name: side, image: example/side, restartPolicy: Always, readinessProbe: {httpGet: {port: 8081, path: /x}}}]
        containers: [{name: app, image: example/app:1}, {name: istio-proxy, image: auto, resources: {requests: {cpu: 200m}}}]
        volumes: [{name: work, emptyDir: {}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful}
spec:
  serviceName: s
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}, annotations: {sidecar.istio.io/proxyCPU: 100m, sidecar.istio.io/proxyMemoryLimit: 64Mi}}
    spec: {containers: [{name: app, image: example/app}], securityContext: {runAsUser: 1000, fsGroup: 1000}}
---
# A comment.
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon}
spec:
  selector: {matchLabels: {app: e}}
  template:
    metadata: {labels: {app: e}}
    spec: {hostNetwork: true, containers: [{name: app, image: example/app, livenessProbe: {httpGet: {port: 80}}}]}
---
apiVersion: batch/v1
kind: Job
metadata: {generateName: job-}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: app, image: example/app}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 * * *"
  jobTemplate:
    spec:
      template:
        metadata: {labels: {sidecar.istio.io/inject: "true"}}
        spec: {restartPolicy: OnFailure, terminationGracePeriodSeconds: 5, containers: [{name: app, image: example/app@sha256:0000000000000000000000000000000000000000000000000000000000000000}]}
---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "out", "labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"containers": [{"name": "app", "image": "example/app"}]}}
`

// Every sample, and a pod of each kind, is the same to the byte whether the webhook
// of a real API server injects it or the file was injected before; and a file that
// was is not changed by the webhook.
func TestSameAsWebhook(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	serve(t, client)
	inside, outside := namespace(t, client, "enabled"), namespace(t, client, "disabled")
	waitInjected(t, client, inside)
	files, err := filepath.Glob(filepath.Join(env.Root, "samples", "*", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("find samples: %v", err)
	}
	texts := map[string]string{"kinds": kinds}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(data)
	}
	compared := 0
	for title, text := range texts {
		out, err := Manifests([]byte(text), inside, config)
		if err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		plain, injected := pods(t, []byte(text)), pods(t, out.Manifests)
		if len(plain) != len(injected) {
			t.Fatalf("%s: %d pods, %d after", title, len(plain), len(injected))
		}
		for i := range plain {
			want := create(t, client, inside, plain[i])
			for where, ns := range map[string]string{"where no webhook is called": outside, "where it is": inside} {
				if diff := cmp.Diff(want, create(t, client, ns, injected[i])); diff != "" {
					t.Errorf("%s, pod %d, %s:\n%s", title, i, where, diff)
				}
			}
			compared++
		}
	}
	t.Logf("%d pods of %d texts are the same", compared, len(texts))
}

// pods returns the pods and templates of manifests, in their order.
func pods(t *testing.T, manifests []byte) []*corev1.Pod {
	t.Helper()
	var out []*corev1.Pod
	var add func(obj *unstructured.Unstructured)
	add = func(obj *unstructured.Unstructured) {
		if obj.IsList() {
			_ = obj.EachListItem(func(item runtime.Object) error {
				add(item.(*unstructured.Unstructured))
				return nil
			})
			return
		}
		path, ok := templates[obj.GetKind()]
		if !ok {
			return
		}
		template := obj.Object
		if len(path) > 0 {
			template, _, _ = unstructured.NestedMap(obj.Object, path...)
		}
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
			t.Fatal(err)
		}
		pod.Name, pod.GenerateName = "", "p-"
		out = append(out, &pod)
	}
	objs, err := parse(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		add(obj)
	}
	return out
}

// parse is cluster.Parse for objects that may have no name.
func parse(manifests []byte) ([]*unstructured.Unstructured, error) {
	text := strings.ReplaceAll(string(manifests), "generateName: job-", "name: job")
	text = strings.ReplaceAll(text, "kind: List\n", "kind: List\nmetadata: {name: list}\n")
	return cluster.Parse([]byte(text))
}

// create has the API server take the pod, and returns what it made of it as JSON,
// without what differs with the pod's name, namespace and node.
func create(t *testing.T, client kubernetes.Interface, ns string, pod *corev1.Pod) string {
	t.Helper()
	pod = pod.DeepCopy()
	pod.Namespace = ns
	if name := pod.Spec.ServiceAccountName; name != "" {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := client.CoreV1().ServiceAccounts(ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	made, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("%s: %v", pod.Labels, err)
	}
	text, err := json.MarshalIndent(map[string]any{"labels": made.Labels, "annotations": made.Annotations, "spec": withoutAPIToken(made.Spec)}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withoutAPIToken leaves out the volume of the pod's token for the API server,
// whose name is random. Where no webhook is called, the API server mounts it into
// the sidecar too; the webhook takes it away there.
func withoutAPIToken(spec corev1.PodSpec) corev1.PodSpec {
	const prefix = "kube-api-access-"
	var volumes []corev1.Volume
	for _, v := range spec.Volumes {
		if !strings.HasPrefix(v.Name, prefix) {
			volumes = append(volumes, v)
		}
	}
	spec.Volumes = volumes
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			var mounts []corev1.VolumeMount
			for _, m := range list[i].VolumeMounts {
				if !strings.HasPrefix(m.Name, prefix) {
					mounts = append(mounts, m)
				}
			}
			list[i].VolumeMounts = mounts
		}
	}
	return spec
}

// serve has the API server call the webhook by the chart's own configuration.
func serve(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	server := httptest.NewTLSServer(webhook.Handler(config, nil, nil))
	t.Cleanup(server.Close)
	objs, err := install.Render(install.Values{Cluster: "east"})
	if err != nil {
		t.Fatal(err)
	}
	var c admissionregistrationv1.MutatingWebhookConfiguration
	for _, obj := range objs {
		if obj.GetKind() == "MutatingWebhookConfiguration" {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{
			URL:      new(server.URL + webhook.Path),
			CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}
	}
	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := configurations.Create(t.Context(), &c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = configurations.Delete(context.Background(), c.Name, metav1.DeleteOptions{}) })
}

// namespace makes one whose label istio-injection has that value.
func namespace(t *testing.T, client kubernetes.Interface, injection string) string {
	t.Helper()
	name := env.Namespace(t)
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"istio-injection":%q}}}`, injection)
	if _, err := client.CoreV1().Namespaces().Patch(t.Context(), name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

// waitInjected waits until the API server calls the webhook, and has accounts.
func waitInjected(t *testing.T, client kubernetes.Interface, ns string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		made, err := client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "first-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}},
		}, metav1.CreateOptions{})
		if err == nil && made.Annotations[api.AnnotationInjected] != "" {
			for _, c := range made.Spec.InitContainers {
				for _, m := range c.VolumeMounts {
					if strings.HasPrefix(m.Name, "kube-api-access-") {
						t.Errorf("container %s has the pod's token for the API server", c.Name)
					}
				}
			}
			if len(made.Spec.Containers[0].VolumeMounts) == 0 {
				t.Error("the API server mounts no tokens, so nothing is shown")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not injected within 30s: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
