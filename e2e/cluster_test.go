//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/e2e/topology"
)

// Kinds that tests ask for by name.
var (
	linkKind   = schema.GroupVersionResource{Group: "isthmus.dev", Version: "v1alpha1", Resource: "clusterlinks"}
	exportKind = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"}
	importKind = schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceimports"}
)

// Cluster is one Kubernetes cluster, reached by its API server alone.
type Cluster struct {
	topology.Member
	Kube    *kubernetes.Clientset
	Dynamic dynamic.Interface
	config  *rest.Config
	mapper  meta.ResettableRESTMapper
}

func connect(m topology.Member, cfg *rest.Config) (*Cluster, error) {
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kube.Discovery()))
	return &Cluster{Member: m, Kube: kube, Dynamic: dyn, config: cfg, mapper: mapper}, nil
}

// Apply applies the documents of a file in namespace, server-side.
func (c *Cluster) Apply(t *testing.T, namespace, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c.ApplyYAML(t, namespace, string(data))
}

// ApplyYAML applies documents in namespace, server-side.
func (c *Cluster) ApplyYAML(t *testing.T, namespace, documents string) {
	t.Helper()
	dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(documents), 4096)
	for {
		obj := &unstructured.Unstructured{}
		if err := dec.Decode(&obj.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: read manifest: %v", c.Name, err)
		}
		if len(obj.Object) == 0 {
			continue
		}
		if err := c.applyOne(t.Context(), namespace, obj); err != nil {
			t.Fatalf("%s: apply %s %s: %v", c.Name, obj.GetKind(), obj.GetName(), err)
		}
	}
}

func (c *Cluster) applyOne(ctx context.Context, namespace string, obj *unstructured.Unstructured) error {
	client, err := c.resource(namespace, obj)
	if err != nil {
		return err
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "e2e", Force: new(true)})
	return err
}

// Delete deletes what an object of that kind and name stands for; absence is fine.
func (c *Cluster) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	err := c.Dynamic.Resource(gvr).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Cluster) resource(namespace string, obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := obj.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return c.Dynamic.Resource(mapping.Resource), nil
	}
	return c.Dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}

// Namespace makes a namespace whose pods get sidecars where inject says so, with the
// ConfigMap that tells samples the cluster's name; it is deleted at the test's end.
func (c *Cluster) Namespace(t *testing.T, name string, inject bool) {
	t.Helper()
	labels := map[string]string{}
	if inject {
		labels["istio-injection"] = "enabled"
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.Kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("%s: %v", c.Name, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.explain(t.Output(), name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	c.ApplyYAML(t, name, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cluster}\ndata: {name: "+c.Name+"}\n")
}

// Ready waits until every pod that the selector names is ready, and that there are n.
func (c *Cluster) Ready(t *testing.T, namespace, selector string, n int) []corev1.Pod {
	t.Helper()
	var ready []corev1.Pod
	Eventually(t, 2*time.Minute, fmt.Sprintf("%s: %d ready pods %s in %s", c.Name, n, selector, namespace), func(ctx context.Context) error {
		ready = nil
		pods, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil && isReady(&p) {
				ready = append(ready, p)
			}
		}
		if len(ready) != n || len(pods.Items) != n {
			return fmt.Errorf("%d ready of %d pods", len(ready), len(pods.Items))
		}
		return nil
	})
	return ready
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Scale sets the replicas of a Deployment and waits until that many are ready.
func (c *Cluster) Scale(t *testing.T, namespace, name string, n int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
	d, err := c.Kube.AppsV1().Deployments(namespace).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("%s: scale %s: %v", c.Name, name, err)
	}
	c.Ready(t, namespace, metav1.FormatLabelSelector(d.Spec.Selector), n)
}

// lockedBuffer is a buffer for writers that outlive the call.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Exec runs a program in a container of a pod and returns its stdout; the error
// holds stderr.
func (c *Cluster) Exec(ctx context.Context, namespace, pod, container string, command ...string) (string, error) {
	var out lockedBuffer
	err := c.Stream(ctx, namespace, pod, container, &out, command...)
	return out.String(), err
}

// Stream is Exec with stdout written to w as it comes.
func (c *Cluster) Stream(ctx context.Context, namespace, pod, container string, w io.Writer, command ...string) error {
	req := c.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	exec, err := remotecommand.NewSPDYExecutor(c.config, "POST", req.URL())
	if err != nil {
		return err
	}
	var errs lockedBuffer // a stream that is cut short goes on writing for a moment
	if err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: w, Stderr: &errs}); err != nil {
		return fmt.Errorf("%s: exec %s: %w: %s", c.Name, strings.Join(command, " "), err, strings.TrimSpace(errs.String()))
	}
	return nil
}

// Link returns the ClusterLink to the other cluster.
func (c *Cluster) Link(ctx context.Context, to string) (*v1alpha1.ClusterLink, error) {
	obj, err := c.Dynamic.Resource(linkKind).Namespace("isthmus-system").Get(ctx, to, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	link := &v1alpha1.ClusterLink{}
	return link, runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, link)
}

// WaitLink waits until the link to the other cluster is in one of the states.
func (c *Cluster) WaitLink(t *testing.T, to string, within time.Duration, states ...v1alpha1.LinkState) *v1alpha1.ClusterLink {
	t.Helper()
	var link *v1alpha1.ClusterLink
	Eventually(t, within, fmt.Sprintf("%s: link to %s is %v", c.Name, to, states), func(ctx context.Context) (err error) {
		if link, err = c.Link(ctx, to); err != nil {
			return err
		}
		for _, s := range states {
			if link.Status.State == s {
				return nil
			}
		}
		return fmt.Errorf("it is %q: %s", link.Status.State, link.Status.Message)
	})
	return link
}
