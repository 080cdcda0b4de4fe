//go:build e2e

package e2e

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// A kubeconfig as kind itself writes it has servers on loopback and contexts named kind-NAME. Those addresses work on
// this machine only: link finds the one that works from inside the other cluster, and proves it.
func TestLinkWithLoopbackKubeconfig(t *testing.T) {
	mesh.Needs(t, WestIsPrimary)
	const ns, url = "loopback", "http://echo.loopback.svc.clusterset.local"
	mesh.Cleanup(t, mesh.LinkArgs()...)
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	as := *mesh
	as.Kubeconfig = plainKubeconfig(t)

	as.CLI(t, "unlink", "kind-east", "kind-west")
	caller.Fails(t, url, 30*time.Second)
	as.CLI(t, "link", "kind-east", "kind-west")
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	mesh.West.WaitLink(t, "east", 30*time.Second, v1alpha1.LinkConnected)
	caller.Reaches(t, url, time.Minute, "west")
	for _, c := range []struct {
		reads *Cluster
		other string
	}{{mesh.East, "west"}, {mesh.West, "east"}} {
		if server := c.reads.remoteServer(t, c.other); loopback(t, server) {
			t.Errorf("%s reads %s at %s", c.reads.Name, c.other, server)
		}
	}
}

// plainKubeconfig writes the kubeconfig as kind would have: without our extension, which names the other address, and
// with kind's names for contexts.
func plainKubeconfig(t *testing.T) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(mesh.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	plain := clientcmdapi.NewConfig()
	plain.Clusters, plain.AuthInfos = config.Clusters, config.AuthInfos
	for name, c := range config.Clusters {
		if c.Extensions = nil; !loopback(t, c.Server) {
			t.Fatalf("the server of %s is %s: this proves nothing", name, c.Server)
		}
	}
	for name, c := range config.Contexts {
		plain.Contexts["kind-"+name] = c
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*plain, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// remoteServer returns the address at which the control plane reads the API server of another cluster.
func (c *Cluster) remoteServer(t *testing.T, other string) string {
	t.Helper()
	secret, err := c.Kube.CoreV1().Secrets("isthmus-system").Get(t.Context(), "isthmus-remote-"+other, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.Load(secret.Data["kubeconfig"])
	if err != nil || len(config.Clusters) != 1 {
		t.Fatalf("remote secret of %s: %d clusters: %v", other, len(config.Clusters), err)
	}
	for _, entry := range config.Clusters {
		return entry.Server
	}
	return ""
}

func loopback(t *testing.T, server string) bool {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}
