//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

// within is the time that upstream gives to most things, starting that to pods,
// which may get a sidecar first.
const (
	within   = 20 * time.Second
	starting = 60 * time.Second
)

// cluster is one of the two, reached by its API server alone.
type cluster struct {
	client.Client
	name   string
	kube   *kubernetes.Clientset
	config *rest.Config
}

// fixture is one spec's namespace in both clusters. Its service and workload
// are made in the first; a spec changes them before start.
type fixture struct {
	*testing.T
	clusters  []*cluster
	separate  bool // the clusters are on networks of their own
	namespace string
	service   *corev1.Service
	export    *mcsv1beta1.ServiceExport
	workload  client.Object // Deployment or StatefulSet
	exported  bool          // export it at the start
	callers   bool          // run a pod that asks in each cluster
	from      string        // name of that pod: plainCaller or meshedCaller
	meshed    bool          // pods get a sidecar, but for plainCaller
	later     bool          // the second cluster has no such namespace at first
}

func newFixture(t *testing.T, contexts []string) *fixture {
	f := &fixture{
		T: t, namespace: fmt.Sprintf("mcs-%x", time.Now().UnixNano()), service: newService(), export: newExport(), exported: true,
		separate: *networks == separateNetworks, meshed: *networks == separateNetworks, from: plainCaller,
	}
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, mcsv1alpha1.Install, mcsv1beta1.Install} {
		f.must(add(types))
	}
	for _, name := range contexts {
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: *kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
		f.must(err)
		config.QPS, config.Burst = 50, 100
		c := &cluster{name: name, config: config}
		c.Client, err = client.New(config, client.Options{Scheme: types})
		f.must(err)
		c.kube, err = kubernetes.NewForConfig(config)
		f.must(err)
		f.clusters = append(f.clusters, c)
	}
	return f
}

// start makes the namespace in both clusters, then what the spec wants.
func (f *fixture) start() {
	f.Helper()
	for i, c := range f.clusters {
		if i > 0 && f.later {
			continue
		}
		f.makeNamespace(c)
		if f.callers {
			f.create(c, callerPod(f.from))
		}
	}
	f.create(f.clusters[0], f.service.DeepCopy())
	if f.workload != nil {
		f.create(f.clusters[0], f.workload)
	}
	if f.exported {
		f.create(f.clusters[0], f.export.DeepCopy())
	}
	if f.callers {
		for _, c := range f.clusters {
			f.running(c)
		}
	}
}

func (f *fixture) makeNamespace(c *cluster) {
	f.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
	if f.meshed {
		n.Labels = map[string]string{api.LabelInject: "true"}
	}
	f.must(c.Create(f.Context(), n))
	f.removed(c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})
}

// removed deletes an object when the spec ends, if it is there.
func (f *fixture) removed(c *cluster, o client.Object) {
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Delete(ctx, o); err != nil && !apierrors.IsNotFound(err) {
			f.Error(err)
		}
	})
}

// second makes the service in the second cluster too and exports it, younger
// by more than the second that creation times are good for.
func (f *fixture) second(service *corev1.Service, export *mcsv1beta1.ServiceExport) {
	f.Helper()
	time.Sleep(1100 * time.Millisecond)
	f.create(f.clusters[1], service)
	f.create(f.clusters[1], export)
}

func (f *fixture) create(c *cluster, o client.Object) {
	f.Helper()
	o.SetNamespace(f.namespace)
	if err := c.Create(f.Context(), o); err != nil {
		f.Fatalf("%s: create %T %s: %v", c.name, o, o.GetName(), err)
	}
}

func (f *fixture) running(c *cluster) {
	f.Helper()
	f.before(starting, c.name+": the pod that asks runs", func(ctx context.Context) error {
		var pod corev1.Pod
		if err := c.Get(ctx, f.key(f.from), &pod); err != nil || pod.Status.Phase == corev1.PodRunning {
			return err
		}
		return fmt.Errorf("it is %s", pod.Status.Phase)
	})
}

func (f *fixture) unexport(c *cluster) {
	f.Helper()
	f.must(c.Delete(f.Context(), &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: helloName}}))
}

func (f *fixture) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: f.namespace, Name: name}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}
