package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// East serves west, which has an API server of its own and no control plane, with the manager's rights alone: west's
// tokens give certificates of west, its webhook's authority, bundles, Lease and way home are kept, and what is
// another cluster's is refused. When the Secret goes, so does all of it.
func TestServedRemote(t *testing.T) {
	east, west := env, testenv.Start(t)
	root := newRoot(t)
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	d := startIn(t, east, "east", "isthmusd-primary", caFolder(t, root, "east"), bundle)
	eastKube, westKube := kubernetes.NewForConfigOrDie(east.Config), kubernetes.NewForConfigOrDie(west.Config)
	openGateway(t, eastKube)
	writeRemote(t, west)
	primary := join.Side{Context: "east", Config: east.Config, Cluster: "east"}
	remote := join.Side{Context: "west", Config: west.Config, Cluster: "west", Network: "lan", Server: west.Config.Host}
	opts := join.Options{AllowServers: []string{"127.0.0.1"}}
	chain, key, err := root.Intermediate("west")
	if err != nil {
		t.Fatal(err)
	}
	material := join.Material{Chain: chain, Key: key, Bundle: bundle.PEM()}
	if err := join.Serve(t.Context(), primary, remote, material, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = join.Unserve(context.Background(), primary, remote, opts) })

	ns := west.Namespace(t)
	eventually(t, "east's control plane is elected in west", func() bool {
		lease, err := westKube.CoordinationV1().Leases(api.SystemNamespace).Get(t.Context(), api.ControlPlaneName, metav1.GetOptions{})
		return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == "east/isthmusd-primary"
	})
	eventually(t, "west's way home leads to east's gateway", func() bool {
		s, err := westKube.DiscoveryV1().EndpointSlices(api.SystemNamespace).Get(t.Context(), "isthmusd-ipv4", metav1.GetOptions{})
		return err == nil && s.Labels[discoveryv1.LabelServiceName] == api.ControlPlaneName && len(s.Endpoints) == 1 && s.Endpoints[0].Addresses[0] == "203.0.113.7" &&
			len(s.Ports) == 2 && *s.Ports[0].Port == api.PortDiscovery && *s.Ports[1].Port == api.PortWebhook
	})
	eventually(t, "west's API server is told whom to trust", func() bool {
		hooks, err := westKube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "isthmus", metav1.GetOptions{})
		return err == nil && len(hooks.Webhooks[0].ClientConfig.CABundle) > 0
	})
	eventually(t, "namespaces of west get the bundle", func() bool {
		m, err := westKube.CoreV1().ConfigMaps(ns).Get(t.Context(), api.BundleConfigMapName, metav1.GetOptions{})
		return err == nil && m.Data[api.BundleKey] == string(bundle.PEM())
	})

	pod := makePod(t, west, westKube, ns, "client", "10.9.0.9")
	token := west.Token(t, ns, "client", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}, api.TokenAudience("west"))
	svid := d.signOf(t, "west", token)
	if svid.Cluster != "west" || svid.ID.Namespace() != ns {
		t.Errorf("a workload of west was given %s of cluster %s", svid.ID, svid.Cluster)
	}
	var serves struct {
		Serves []struct{ Cluster, Message string }
	}
	d.get(t, "/debug/clusters", &serves)
	if len(serves.Serves) != 1 || serves.Serves[0].Cluster != "west" || serves.Serves[0].Message != "" {
		t.Errorf("east says that it serves %+v", serves.Serves)
	}
	if text := d.fetch(t, "http://"+d.metrics+"/metrics"); !strings.Contains(text, `isthmus_exports{served="west"} 0`) || !strings.Contains(text, "isthmus_exports 0") {
		t.Error("metrics do not tell both clusters apart")
	}

	// A wrong intermediate: what was there stays, and it is said.
	bad := material
	bad.Key = []byte("no key")
	if err := join.Serve(t.Context(), primary, remote, bad, opts); err != nil {
		t.Fatal(err)
	}
	if again := d.signOf(t, "west", token); again.Cluster != "west" {
		t.Error("west is served no longer")
	}

	if err := join.Unserve(t.Context(), primary, remote, opts); err != nil {
		t.Fatal(err)
	}
	eventually(t, "west is served no longer", func() bool {
		var now struct{ Serves []any }
		d.get(t, "/debug/clusters", &now)
		return len(now.Serves) == 0
	})
}

// fetch returns a page as text.
func (d *isthmusd) fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// openGateway gives east's gateway an outside address and the ports for remotes.
func openGateway(t *testing.T, kube kubernetes.Interface) {
	t.Helper()
	services := kube.CoreV1().Services(api.SystemNamespace)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ports": []map[string]any{
		{"name": "tls-eastwest", "port": api.PortEastWest}, {"name": "tls-isthmusd", "port": api.PortDiscovery}, {"name": "tls-webhook", "port": api.PortWebhook},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := services.Patch(t.Context(), api.EastWestName, "application/merge-patch+json", patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Status
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}}
	if _, err := services.UpdateStatus(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // for the tests that share the API server
		if s, err := services.Get(context.Background(), api.EastWestName, metav1.GetOptions{}); err == nil {
			s.Status = before
			_, _ = services.UpdateStatus(context.Background(), s, metav1.UpdateOptions{})
		}
	})
}

// writeRemote writes what the chart has for a remote, but for its gateways.
func writeRemote(t *testing.T, env *testenv.Env) {
	t.Helper()
	objs, err := install.Render(install.Values{Cluster: "west", Network: "lan", Primary: "east", Extra: map[string]any{"controlPlane": map[string]any{"enabled": false}}})
	if err != nil {
		t.Fatal(err)
	}
	objs = slices.DeleteFunc(objs, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
	if err := install.Apply(t.Context(), env.Config, objs, nil); err != nil {
		t.Fatal(err)
	}
}
