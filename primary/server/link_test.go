package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/remote/join"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// Two primaries on two API servers: linked by join, west's export becomes an
// import in east whose slice is a checkpoint, the link says how it is, and a
// control plane that starts while west cannot be read keeps it all.
func TestTwoClusters(t *testing.T) {
	east, west := env, testenv.Start(t)
	root := newRoot(t)
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	eastCA, westCA := caFolder(t, root, "east"), caFolder(t, root, "west")
	first := startIn(t, east, "east", "isthmusd-east", eastCA, bundle)
	startIn(t, west, "west", "isthmusd-west", westCA, bundle)

	ns := east.Namespace(t)
	west.EnsureNamespace(t, ns)
	westKube := kubernetes.NewForConfigOrDie(west.Config)
	gateway := serveGateway(t, root, "west")
	announce(t, westKube, gateway)
	pod := makePod(t, west, westKube, ns, "reviews-v1", "10.9.0.7")
	makeService(t, westKube, ns, "reviews", pod)
	sides := join.Side{Context: "east", Config: east.Config, Cluster: "east"}
	other := join.Side{Context: "west", Config: west.Config, Cluster: "west", Server: west.Config.Host}
	opts := join.Options{AllowServers: []string{"127.0.0.1"}}
	if err := join.Link(t.Context(), sides, other, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = join.Unlink(context.Background(), sides, other, opts) })
	waitCtx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := join.Wait(waitCtx, sides, "west", opts); err != nil {
		t.Fatal(err)
	}

	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	to := func(e *testenv.Env) client.Client {
		c, err := client.New(e.Config, client.Options{Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	inEast, inWest := to(east), to(west)
	export := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "reviews"}}
	if err := inWest.Create(t.Context(), export); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKeyFromObject(export)
	var imported mcsv1beta1.ServiceImport
	slice := func() *discoveryv1.EndpointSlice {
		var list discoveryv1.EndpointSliceList
		if err := inEast.List(t.Context(), &list, client.InNamespace(ns)); err != nil || len(list.Items) != 1 {
			return nil
		}
		return &list.Items[0]
	}
	eventually(t, "east imports it from west, with a checkpoint", func() bool {
		s := slice()
		return inEast.Get(t.Context(), key, &imported) == nil && len(imported.Status.Clusters) == 1 && imported.Status.Clusters[0].Cluster == "west" &&
			s != nil && len(s.Endpoints) == 0 && strings.Contains(s.Annotations[api.AnnotationCheckpoint], `"count":1`)
	})
	eventually(t, "west says that it is exported", func() bool {
		var e mcsv1beta1.ServiceExport
		return inWest.Get(t.Context(), key, &e) == nil && meta.IsStatusConditionTrue(e.Status.Conditions, "Ready")
	})
	link := func() (out v1alpha1.ClusterLink) {
		_ = inEast.Get(t.Context(), client.ObjectKey{Namespace: api.SystemNamespace, Name: "west"}, &out)
		return out
	}
	eventually(t, "the link is connected, its gateway proved, one export counted", func() bool {
		s := link().Status
		return s.State == v1alpha1.LinkConnected && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionGatewayAnswers) && s.Exports == 1 && s.Endpoints == 1
	})

	west.Kill()
	eventually(t, "the link is stale", func() bool { return link().Status.State == v1alpha1.LinkStale })
	since := link().Status.Since
	before := slice()
	first.stop()
	second := startIn(t, east, "east", "isthmusd-east-2", eastCA, bundle)
	eventually(t, "the second leads", func() bool {
		var view struct{ Leader bool }
		second.get(t, "/debug/clusters", &view)
		return view.Leader
	})
	var snapshot struct {
		Services []struct {
			Host   string
			Counts []struct{ Ready uint32 }
		} `json:"services"`
	}
	second.get(t, "/debug/snapshot", &snapshot)
	found := false
	for _, s := range snapshot.Services {
		found = found || s.Host == "reviews."+ns+".svc.clusterset.local" && len(s.Counts) == 1 && s.Counts[0].Ready == 1
	}
	if !found {
		t.Errorf("a control plane that cannot read west does not serve from the checkpoint: %+v", snapshot)
	}
	if after := slice(); after == nil || after.UID != before.UID || after.Annotations[api.AnnotationCheckpoint] != before.Annotations[api.AnnotationCheckpoint] {
		t.Errorf("the checkpoint was touched: %+v", after)
	}
	if s := link().Status; s.State != v1alpha1.LinkStale || !s.Since.Equal(since) {
		t.Errorf("the link forgot: %s since %s, was stale since %s", s.State, s.Since, since)
	}

	west.Restart(t)
	eventually(t, "the link is connected again", func() bool { return link().Status.State == v1alpha1.LinkConnected })
	if err := inWest.Delete(t.Context(), export); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the import is gone", func() bool { return slice() == nil && inEast.Get(t.Context(), key, &imported) != nil })
}

// serveGateway answers probes as cluster's gateway on an address that is not
// loopback, which nobody would take for a gateway's.
func serveGateway(t *testing.T, root *ca.Root, cluster string) (address string) {
	t.Helper()
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{Cluster: cluster, Domain: bundle.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: bundle.PEM()})
	if err != nil {
		t.Fatal(err)
	}
	id, err := trust.NewID(bundle.Domain(), api.SystemNamespace, api.EastWestName)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	config := trust.ServerTLS(authority.Source(id), []string{api.ALPN}, false, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				_ = tls.Server(conn, config).HandshakeContext(ctx)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// ownAddress is one of this machine's that is not loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	if os.Getenv("CI") == "" {
		t.Skip("this machine has no address but loopback")
	}
	t.Fatal("this machine has no address but loopback")
	return ""
}

// announce gives the address of west's gateway by hand, on the chart's Service.
func announce(t *testing.T, kube kubernetes.Interface, address string) {
	t.Helper()
	services := kube.CoreV1().Services(api.SystemNamespace)
	s, err := services.Get(t.Context(), api.EastWestName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[api.AnnotationGatewayAddresses] = address
	if _, err := services.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}
