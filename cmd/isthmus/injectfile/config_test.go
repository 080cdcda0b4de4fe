package injectfile

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"
	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// What an installation's control plane is told comes out of its Deployment, also
// for a remote, whose control plane is its primary's.
func TestReadConfig(t *testing.T) {
	east, err := cluster.New("ctx-east", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	env.EnsureNamespace(t, api.SystemNamespace)
	objs, err := install.Render(install.Values{Cluster: "east", Network: "net1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		if kind := obj.GetKind(); obj.GetName() == api.MeshConfigMapName && kind == "ConfigMap" || obj.GetName() == api.ControlPlaneName && kind == "Deployment" {
			if err := east.Apply(t.Context(), api.SystemNamespace, obj); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := ReadConfig(t.Context(), east, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := webhook.Config{
		Image: "isthmus-mesh/isthmus-proxy:dev", PullPolicy: corev1.PullIfNotPresent, Cluster: "east", Network: "net1", TrustDomain: "cluster.local",
		Discovery: "isthmusd.isthmus-system.svc:15012", DiscoveryCluster: "east", Dataplane: "builtin", Resources: got.Resources,
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Resources.Requests.Memory().IsZero() {
		t.Errorf("resources %v\n%s", got.Resources, diff)
	}

	remote := remoteOf(t, "east")
	got, err = ReadConfig(t.Context(), remote, east)
	want.Cluster, want.Network, want.DiscoveryCluster = "west", "net2", "west"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("of the remote: %v\n%s", err, diff)
	}
	if _, err := ReadConfig(t.Context(), remote, nil); err == nil || !strings.Contains(err.Error(), "cluster east, by --primary") {
		t.Errorf("no primary named: %v", err)
	}
	if _, err := ReadConfig(t.Context(), remote, remote); err == nil || !strings.Contains(err.Error(), "name another by --primary") {
		t.Errorf("another cluster named: %v", err)
	}
}

// remoteOf is a cluster of its own that says that it is a remote.
func remoteOf(t *testing.T, primary string) *cluster.Cluster {
	t.Helper()
	env := testenv.Start(t)
	c, err := cluster.New("ctx-west", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	env.EnsureNamespace(t, api.SystemNamespace)
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: api.MeshConfigMapName},
		Data:       map[string]string{"cluster": "west", "network": "net2", "trustDomain": "cluster.local", "primary": primary},
	}
	if _, err := c.Kube.CoreV1().ConfigMaps(api.SystemNamespace).Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}
