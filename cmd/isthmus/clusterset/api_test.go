package clusterset

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// startCluster starts a real API server, without nodes, and opens it as context name.
func startCluster(t *testing.T, name string) *cluster.Cluster {
	t.Helper()
	env := testenv.Start(t, testenv.WithControllers())
	raw, err := clientcmd.Load(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.New(name, env.Config)
	if err != nil {
		t.Fatal(err)
	}
	c.Raw = raw
	return c
}

// installWithoutNodes installs; nothing can become ready, so that must be the error.
func installWithoutNodes(t *testing.T, opts InstallOptions) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var mu sync.Mutex
	waiting := map[string]bool{}
	opts.Progress = func(name, step string) {
		mu.Lock()
		defer mu.Unlock()
		if waiting[name] = waiting[name] || strings.HasPrefix(step, "wait for Deployment"); waiting[name] {
			for _, target := range opts.Targets {
				if !waiting[target.Cluster.Context] {
					return
				}
			}
			cancel()
		}
	}
	_, err := Install(ctx, opts)
	if err == nil || !strings.Contains(err.Error(), "wait for Deployment") {
		t.Fatalf("install: %v", err)
	}
}

// Two clusters of one root are installed, twice, and linked, both ways, twice; the
// test stands in for the control planes, which have no node to run on.
func TestInstallAndLink(t *testing.T) {
	var clusters [2]*cluster.Cluster
	var wg sync.WaitGroup
	for i, name := range []string{"east", "west"} {
		wg.Go(func() { clusters[i] = startCluster(t, name) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	east, west := clusters[0], clusters[1]
	store, domain := testStore(t), testDomain(t)
	opts := InstallOptions{Targets: []Target{{Cluster: east}, {Cluster: west}}, Domain: domain, Issuer: testIssuer(t, store)}

	link := LinkOptions{Clusters: clusters[:], AllowServers: []string{"127.0.0.1"}, Servers: map[string]string{"east": east.Config.Host, "west": west.Config.Host}}
	if _, err := Link(t.Context(), link); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("link before install: %v", err)
	}
	installWithoutNodes(t, opts)
	before, err := readCA(t.Context(), east, api.CASecretName)
	if err != nil || before == nil {
		t.Fatalf("intermediate: %v", err)
	}
	installWithoutNodes(t, opts)
	after, err := readCA(t.Context(), east, api.CASecretName)
	if err != nil || !bytes.Equal(before.Key, after.Key) {
		t.Errorf("the second installation made another intermediate: %v", err)
	}
	installed, err := Find(t.Context(), west)
	if err != nil || installed.Cluster != "west" || installed.Network != "west" || installed.TrustDomain != "cluster.local" {
		t.Errorf("installed %+v, %v", installed, err)
	}
	t.Run("another name", func(t *testing.T) {
		_, err := Install(t.Context(), InstallOptions{Targets: []Target{{Cluster: east, Name: "north"}}, Domain: domain, Issuer: opts.Issuer})
		if !errors.Is(err, ErrName) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("another root", func(t *testing.T) {
		_, err := Install(t.Context(), InstallOptions{Targets: []Target{{Cluster: east}}, Domain: domain, Issuer: testIssuer(t, testStore(t))})
		if !errors.Is(err, ErrOtherRoot) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("link", func(t *testing.T) { testLink(t, link) })
	t.Run("identities", func(t *testing.T) { testIdentities(t, link, opts) })
	t.Run("unlink what is gone", func(t *testing.T) { testGone(t, link) })
}

// A cluster's id is written by install; one that is missing or wrong is refused by link and install,
// with what to do. Membership lasts as long as the last link.
func testIdentities(t *testing.T, link LinkOptions, opts InstallOptions) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	west := link.Clusters[1]
	property := func(name, want string) {
		t.Helper()
		if got, err := Property(ctx, west, name); err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
	}
	property(PropertyID, "west")
	property(PropertyMembership, "") // unlinked by the test before
	refused := func(err error, reason string) {
		t.Helper()
		if c, ok := errors.AsType[CheckError](err); !ok || c.Finding.Reason != reason || c.Finding.Next == "" || c.Finding.Context != "west" {
			t.Errorf("err %v, want %s", err, reason)
		}
	}
	for _, value := range []string{"", "east", "other"} {
		if err := properties(west).Delete(ctx, PropertyID, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		reason := "NoClusterID"
		if value != "" {
			reason = "WrongClusterID"
			writeProperty(ctx, t, west, PropertyID, value)
			_, err := Install(ctx, InstallOptions{Targets: []Target{{Cluster: west}}, Domain: opts.Domain, Issuer: opts.Issuer})
			refused(err, reason)
		}
		_, err := Link(ctx, link)
		refused(err, reason)
		if value == "" {
			writeProperty(ctx, t, west, PropertyID, "any") // for the next round
		}
	}
	if err := properties(west).Delete(ctx, PropertyID, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	installWithoutNodes(t, InstallOptions{Targets: []Target{{Cluster: west}}, Domain: opts.Domain, Issuer: opts.Issuer})
	property(PropertyID, "west")
	m := &member{cluster: west, set: "set"}
	if err := enter(ctx, m); err != nil {
		t.Fatal(err)
	}
	property(PropertyMembership, "set")
	if err := leave(ctx, m); err != nil {
		t.Fatal(err)
	}
	property(PropertyMembership, "")
}

func writeProperty(ctx context.Context, t *testing.T, c *cluster.Cluster, name, value string) {
	t.Helper()
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"value": value}}}
	obj.SetGroupVersionKind(propertyKind)
	obj.SetName(name)
	if _, err := properties(c).Create(ctx, obj, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A cluster that cannot be reached any more, or has lost the mesh, can still be unlinked from the other side.
func testGone(t *testing.T, link LinkOptions) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	east := link.Clusters[0]
	for _, name := range []string{"gone", "lost mesh"} {
		opts := link
		if name == "gone" {
			opts = LinkOptions{Clusters: link.Clusters[:1], Gone: []string{"west"}}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			answer(ctx, t, east, "west")
			answer(ctx, t, link.Clusters[1], "east")
		}()
		if _, err := Link(ctx, link); err != nil {
			t.Fatal(err)
		}
		<-done
		if name == "lost mesh" {
			if err := link.Clusters[1].Kube.CoreV1().ConfigMaps(api.SystemNamespace).Delete(ctx, api.MeshConfigMapName, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Unlink(ctx, opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		list, err := east.Kube.CoreV1().Secrets(api.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelRemoteCluster})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("%s: remote secrets %d, %v", name, len(list.Items), err)
		}
		if got, err := Property(ctx, east, PropertyMembership); name == "lost mesh" && (err != nil || got != "") {
			t.Errorf("%s: member of %q, %v", name, got, err)
		}
		// What is left on the side that came back.
		if _, err := Unlink(ctx, link); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
	}
}

func testLink(t *testing.T, opts LinkOptions) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			answer(ctx, t, opts.Clusters[0], "west")
			answer(ctx, t, opts.Clusters[1], "east")
		}()
		links, err := Link(ctx, opts)
		<-done
		if err != nil {
			t.Fatal(err)
		}
		if len(links) != 2 || links[0].State != v1alpha1.LinkConnected || links[0].To != "west" {
			t.Errorf("links %+v", links)
		}
	}
	for range 2 {
		if _, err := Unlink(ctx, opts); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range opts.Clusters {
		list, err := c.Kube.CoreV1().Secrets(api.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelRemoteCluster})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("%s has remote secrets after unlink: %v", c.Context, err)
		}
	}
}

// answer writes the status that the control plane of c would: the link to other works.
func answer(ctx context.Context, t *testing.T, c *cluster.Cluster, other string) {
	links := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace)
	err := cluster.Until(ctx, "ClusterLink "+other, func(ctx context.Context) (string, error) {
		found, err := links.Get(ctx, other, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if err := unstructured.SetNestedMap(found.Object, map[string]any{"state": "Connected", "exports": int64(0), "endpoints": int64(0)}, "status"); err != nil {
			return "", err
		}
		_, err = links.UpdateStatus(ctx, found, metav1.UpdateOptions{})
		return "", err
	})
	if err != nil {
		t.Error(err)
	}
}
