package scale_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/fleet"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

const (
	localCluster = "local"
	callers      = "callers" // namespace of the proxies' pods
)

// world is the local cluster with its isthmusd, and a fleet beside it that is
// not linked yet.
type world struct {
	t      testing.TB
	shape  fleet.Shape
	fleet  *fleet.Fleet
	env    *testenv.Env
	client client.Client
	own    *ca.Authority
	bundle trust.Bundle
	d      *isthmusd
}

// newWorld starts everything. The local cluster is on the first of the shape's
// networks and has the first so many of its namespaces; each cluster has a gateway
// of its own.
func newWorld(t testing.TB, shape fleet.Shape, namespaces, sidecars int) *world {
	t.Helper()
	w := &world{t: t, env: testenv.Start(t)}
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	must(t, err)
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	must(t, err)
	w.bundle, err = root.Bundle()
	must(t, err)
	var dir string
	w.own, dir = w.authority(root, localCluster)
	host, err := fleet.HostAddress()
	if err != nil {
		t.Skip(err)
	}
	id, err := trust.NewID(domain, api.SystemNamespace, api.EastWestName)
	must(t, err)
	for i := range shape.Clusters {
		authority, _ := w.authority(root, fleet.ClusterName(i))
		g, err := fleet.NewGateway(host, authority.Source(id))
		must(t, err)
		t.Cleanup(g.Close)
		shape.Gateways = append(shape.Gateways, g.Address())
	}
	w.shape = shape
	w.fleet, err = fleet.New()
	must(t, err)
	t.Cleanup(w.fleet.Close)
	must(t, w.fleet.Generate(shape))
	w.install(namespaces)
	w.makePods(sidecars)
	w.d = startIsthmusd(t, settings{
		Kubeconfig: kubeconfig(t, w.env.AccountConfig(t, api.SystemNamespace, api.ControlPlaneName)), Cluster: localCluster, Network: shape.Networks[0],
		Domain: domain.String(), CADir: dir,
	})
	return w
}

// authority makes a cluster's authority, and its files as the Secret is mounted.
func (w *world) authority(root *ca.Root, cluster string) (*ca.Authority, string) {
	w.t.Helper()
	chain, key, err := root.Intermediate(cluster)
	must(w.t, err)
	dir := w.t.TempDir()
	for name, data := range map[string][]byte{api.CAChainKey: chain, api.CAKeyKey: key, api.CABundleKey: w.bundle.PEM()} {
		must(w.t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	authority, err := ca.New(ca.Options{Cluster: cluster, Domain: root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: w.bundle.PEM()})
	must(w.t, err)
	return authority, dir
}

// install applies the chart, its Deployments aside, and makes the namespaces.
func (w *world) install(namespaces int) {
	w.t.Helper()
	objs, err := install.Render(install.Values{Cluster: localCluster, Network: w.shape.Networks[0]})
	must(w.t, err)
	objs = slices.DeleteFunc(objs, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
	must(w.t, install.Apply(w.t.Context(), w.env.Config, objs, nil))
	scheme, err := controllers.Scheme()
	must(w.t, err)
	w.client, err = client.New(w.env.Config, client.Options{Scheme: scheme})
	must(w.t, err)
	for _, name := range append(w.shape.NamespaceNames()[:namespaces], callers) {
		w.env.EnsureNamespace(w.t, name)
	}
}

// makePods makes the pods that the proxies are said to run in.
func (w *world) makePods(n int) {
	w.t.Helper()
	kube := kubernetes.NewForConfigOrDie(w.env.Config).CoreV1().Pods(callers)
	for i := range n {
		pod, err := kube.Create(w.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: callerName(i), Annotations: map[string]string{api.AnnotationInjected: "dev"}},
			Spec:       corev1.PodSpec{ServiceAccountName: "caller", AutomountServiceAccountToken: new(false), NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{})
		must(w.t, err)
		ip := callerIP(i)
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
		_, err = kube.UpdateStatus(w.t.Context(), pod, metav1.UpdateOptions{})
		must(w.t, err)
	}
}

// link makes isthmusd read every cluster of the fleet, as `isthmus link` does.
func (w *world) link() {
	w.t.Helper()
	for _, c := range w.fleet.Clusters() {
		raw, err := w.fleet.Kubeconfig(c)
		must(w.t, err)
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: api.RemoteSecretPrefix + c.Name, Labels: map[string]string{api.LabelRemoteCluster: c.Name}},
			Data:       map[string][]byte{api.RemoteKubeconfigKey: raw, api.RemoteClusterKey: []byte(c.Name)},
		}
		link := &v1alpha1.ClusterLink{
			ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: c.Name},
			Spec:       v1alpha1.ClusterLinkSpec{Cluster: c.Name, SecretName: secret.Name},
		}
		must(w.t, w.client.Create(w.t.Context(), secret))
		if err := w.client.Create(w.t.Context(), link); !apierrors.IsAlreadyExists(err) {
			must(w.t, err)
		}
	}
}

// kubeconfig writes config, which has a bearer token, as a file's content.
func kubeconfig(t testing.TB, config *rest.Config) []byte {
	t.Helper()
	out := clientcmdapi.NewConfig()
	out.Clusters["c"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	out.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	out.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	out.CurrentContext = "x"
	raw, err := clientcmd.Write(*out)
	must(t, err)
	return raw
}
