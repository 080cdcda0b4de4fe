package fleet_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/internal/fleet"
)

const patience = 30 * time.Second

// generate starts a small fleet that ends with the test.
func generate(t *testing.T) (*fleet.Fleet, fleet.Shape) {
	t.Helper()
	f, err := fleet.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	shape := fleet.Shape{Clusters: 3, Services: 12, Networks: []string{"a", "b"}, Namespaces: 2, Gateways: []string{"192.0.2.1:15443"}}
	if err := f.Generate(shape); err != nil {
		t.Fatal(err)
	}
	return f, shape
}

func config(t *testing.T, f *fleet.Fleet, contentType string) *rest.Config {
	t.Helper()
	raw, err := f.Kubeconfig(f.Clusters()[0])
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	config.ContentType, config.AcceptContentTypes = contentType, contentType+",application/json"
	return config
}

// client-go's informers see all objects and every change, in either encoding.
func TestInformers(t *testing.T) {
	for _, contentType := range []string{runtime.ContentTypeProtobuf, runtime.ContentTypeJSON} {
		t.Run(contentType, func(t *testing.T) {
			f, shape := generate(t)
			client, err := kubernetes.NewForConfig(config(t, f, contentType))
			if err != nil {
				t.Fatal(err)
			}
			factory := informers.NewSharedInformerFactory(client, 0)
			slices := factory.Discovery().V1().EndpointSlices()
			seen := make(chan *discoveryv1.EndpointSlice, 100)
			_, err = slices.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, now any) { seen <- now.(*discoveryv1.EndpointSlice) }})
			if err != nil {
				t.Fatal(err)
			}
			pods := factory.Core().V1().Pods().Informer()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			factory.Start(ctx.Done())
			for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
				if !ok {
					t.Errorf("%v was not read", kind)
				}
			}
			mine := exportsOf(shape, 0)
			want := 0
			for _, e := range mine {
				want += e.Pods
			}
			if got := len(pods.GetStore().List()); got != want || want == 0 {
				t.Errorf("%d pods, want %d", got, want)
			}
			if err := f.SetReady(mine[0], 0, false); err != nil {
				t.Fatal(err)
			}
			select {
			case s := <-seen:
				if s.Labels[discoveryv1.LabelServiceName] != mine[0].Name || *s.Endpoints[0].Conditions.Ready {
					t.Errorf("changed to %+v", s)
				}
			case <-ctx.Done():
				t.Error("the change was not seen")
			}
			cancel()
			factory.Shutdown()
		})
	}
}

func exportsOf(shape fleet.Shape, cluster int) []fleet.Export {
	return slices.DeleteFunc(shape.Exports(), func(e fleet.Export) bool { return e.Cluster != cluster })
}

// A pod that ends leaves a watch of those that have not, and what is deleted too.
func TestSelectedWatch(t *testing.T) {
	f, shape := generate(t)
	client, err := kubernetes.NewForConfig(config(t, f, runtime.ContentTypeProtobuf))
	if err != nil {
		t.Fatal(err)
	}
	e := exportsOf(shape, 0)[0]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := client.CoreV1().Pods(e.Namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: newest(t, client), FieldSelector: "status.phase!=Succeeded,status.phase!=Failed"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	c := f.Clusters()[0]
	pod := c.Get("Pod", e.Namespace, e.Name+"-0").(*corev1.Pod).DeepCopy()
	pod.Status.Phase = corev1.PodFailed
	if err := c.Put(pod); err != nil {
		t.Fatal(err)
	}
	expect(t, w, watch.Deleted)
	again := pod.DeepCopy()
	again.Status.Phase = corev1.PodRunning
	if err := c.Put(again); err != nil {
		t.Fatal(err)
	}
	expect(t, w, watch.Added)
	if !c.Delete("Pod", e.Namespace, pod.Name) || c.Delete("Pod", e.Namespace, pod.Name) {
		t.Error("a pod can be deleted once")
	}
	expect(t, w, watch.Deleted)
}

func newest(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	list, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil || len(list.Items) != 1 || list.Continue == "" {
		t.Fatalf("first page: %d pods, continue %q, %v", len(list.Items), list.Continue, err)
	}
	return list.ResourceVersion
}

func expect(t *testing.T, w watch.Interface, want watch.EventType) {
	t.Helper()
	if event, ok := <-w.ResultChan(); !ok || event.Type != want {
		t.Fatalf("got %v %v, want %s", event.Type, event.Object, want)
	}
}

// Exports are served in both versions; a stream begins with all there is where
// that is asked for.
func TestExports(t *testing.T) {
	f, shape := generate(t)
	client, err := dynamic.NewForConfig(config(t, f, runtime.ContentTypeJSON))
	if err != nil {
		t.Fatal(err)
	}
	want := len(exportsOf(shape, 0))
	for _, version := range []string{"v1beta1", "v1alpha1"} {
		exports := client.Resource(schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: version, Resource: "serviceexports"})
		list, err := exports.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != want || list.Items[0].GetAPIVersion() != "multicluster.x-k8s.io/"+version {
			t.Fatalf("%s: %v, %v", version, list, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	exports := client.Resource(schema.GroupVersionResource{Group: "multicluster.x-k8s.io", Version: "v1beta1", Resource: "serviceexports"})
	w, err := exports.Watch(ctx, metav1.ListOptions{SendInitialEvents: new(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for range want {
		expect(t, w, watch.Added)
	}
	expect(t, w, watch.Bookmark)
}

// What is not served, not allowed or too old is refused as an API server does.
func TestRefusals(t *testing.T) {
	f, shape := generate(t)
	client, err := kubernetes.NewForConfig(config(t, f, runtime.ContentTypeProtobuf))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("secrets: %v", err)
	}
	if err := client.CoreV1().Pods("x").Delete(t.Context(), "y", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete: %v", err)
	}
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "node-9", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get: %v", err)
	}
	stranger := config(t, f, runtime.ContentTypeJSON)
	stranger.BearerToken = "other"
	if _, err := kubernetes.NewForConfigOrDie(stranger).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("another token: %v", err)
	}
	old := newest(t, client)
	e := exportsOf(shape, 0)[0]
	for i := range 10_000 {
		if err := f.SetReady(e, 0, i%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	w, err := client.DiscoveryV1().EndpointSlices("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: old})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	event := <-w.ResultChan()
	if status, ok := event.Object.(*metav1.Status); event.Type != watch.Error || !ok || status.Code != http.StatusGone {
		t.Errorf("a watch from long ago: %v %+v", event.Type, event.Object)
	}
}
