package watch

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/trust"
)

// east is the local cluster's API server in every test.
var east *testenv.Env

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { east = e }))
}

// needWest starts the API server of a remote cluster.
func needWest(t *testing.T) *testenv.Env {
	t.Helper()
	return testenv.Start(t)
}

func clientOf(t testing.TB, config *rest.Config) client.Client {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// prepare gives an API server the CRDs, the system namespace and a fresh start.
func prepare(t testing.TB, e *testenv.Env, network string) client.Client {
	t.Helper()
	e.InstallMCS(t)
	e.InstallIsthmus(t)
	c := clientOf(t, e.Config)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: api.SystemNamespace, Annotations: map[string]string{api.AnnotationNetwork: network}}}
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), ns)))
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readerConfig makes an account that may do what the reader may.
func readerConfig(t testing.TB, e *testenv.Env) *rest.Config {
	t.Helper()
	c := clientOf(t, e.Config)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "pods", "nodes", "namespaces"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"multicluster.x-k8s.io"}, Resources: []string{"serviceexports"}, Verbs: []string{"list", "watch"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: api.SystemNamespace, Name: api.ReaderAccountName}},
	}
	scheme := c.Scheme()
	must(t, rbacv1.AddToScheme(scheme))
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), role)))
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), binding)))
	return e.AccountConfig(t, api.SystemNamespace, api.ReaderAccountName)
}

// remoteSecret is the secret by which cluster is read with config.
func remoteSecret(t testing.TB, cluster string, config *rest.Config) *corev1.Secret {
	t.Helper()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[cluster] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[cluster] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: cluster}
	kubeconfig.CurrentContext = cluster
	raw, err := clientcmd.Write(*kubeconfig)
	must(t, err)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: api.RemoteSecretPrefix + cluster, Labels: map[string]string{api.LabelRemoteCluster: cluster}},
		Data:       map[string][]byte{api.RemoteKubeconfigKey: raw, api.RemoteClusterKey: []byte(cluster)},
	}
}

// running is a watcher with every snapshot it has made.
type running struct {
	*Watcher
	t testing.TB
}

func start(t testing.TB, change func(*Options)) running {
	t.Helper()
	domain, err := trust.ParseDomain("cluster.local")
	must(t, err)
	opts := Options{Local: east.Config, Cluster: "east", Network: "east", Domain: domain, AllowServers: []string{"127.0.0.1"}, Holdoff: 10 * time.Millisecond, Grace: 300 * time.Millisecond,
		ProbeEvery: 500 * time.Millisecond, ReachableFor: 5 * time.Second}
	if change != nil {
		change(&opts)
	}
	w, err := New(opts)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("run did not end")
		}
	})
	return running{w, t}
}

// wait waits until a snapshot is as wanted.
func (r running) wait(what string, ok func(*federation.Snapshot) bool) *federation.Snapshot {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if s := r.Snapshot(); s != nil && ok(s) {
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("%s: not within 60 s; statuses %+v; snapshot:\n%s", what, r.Statuses(), dump(r.Snapshot()))
	return nil
}

// dump prints a line for each fact.
func dump(s *federation.Snapshot) string {
	out := ""
	for _, c := range s.Clusters() {
		out += fmt.Sprintf("cluster %+v\n", *c)
	}
	for svc := range s.Services() {
		out += fmt.Sprintf("service %+v\n", *svc)
	}
	for _, p := range s.Problems() {
		out += fmt.Sprintf("problem %+v\n", p)
	}
	return out
}

// workload is one Service with one ready pod in a namespace.
type workload struct {
	namespace, name, ip string
	injected, export    bool
}

// create makes the objects that Kubernetes and the webhook would have made.
func (w workload) create(t testing.TB, c client.Client) {
	t.Helper()
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}})))
	must(t, c.Create(t.Context(), &corev1.Service{ObjectMeta: w.meta(w.name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 9080}}}}))
	w.createPod(t, c)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  w.meta(w.name + "-1"),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{w.ip}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: w.namespace, Name: w.name},
		}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: w.name}
	must(t, c.Create(t.Context(), slice))
	if w.export {
		must(t, c.Create(t.Context(), &mcsv1beta1.ServiceExport{ObjectMeta: w.meta(w.name)}))
	}
}

func (w workload) createPod(t testing.TB, c client.Client) {
	t.Helper()
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: w.meta("app")})))
	pod := &corev1.Pod{ObjectMeta: w.meta(w.name), Spec: corev1.PodSpec{ServiceAccountName: "app", Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	if w.injected {
		pod.Annotations = map[string]string{api.AnnotationInjected: "test"}
	}
	must(t, c.Create(t.Context(), pod))
	pod.Status.PodIP, pod.Status.PodIPs, pod.Status.Phase = w.ip, []corev1.PodIP{{IP: w.ip}}, corev1.PodRunning
	must(t, c.Status().Update(t.Context(), pod))
}

func (w workload) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: w.namespace, Name: name}
}
