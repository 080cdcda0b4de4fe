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
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	opts.Progress = func(_, step string) {
		if strings.HasPrefix(step, "wait for Deployment") {
			time.AfterFunc(time.Second, cancel)
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
	before, err := findCA(t.Context(), east)
	if err != nil || before == nil {
		t.Fatalf("intermediate: %v", err)
	}
	installWithoutNodes(t, opts)
	after, err := findCA(t.Context(), east)
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
