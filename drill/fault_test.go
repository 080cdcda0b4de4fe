package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

func linkFault(ctx context.Context, t *testing.T, c *cluster.Cluster) *v1alpha1.LinkFault {
	t.Helper()
	obj, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).Get(ctx, "west", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var link v1alpha1.ClusterLink
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &link); err != nil {
		t.Fatal(err)
	}
	return link.Spec.Fault
}

// A link is given a fault, a newer one each time, and loses it as often as one likes; it is asked for
// before whether that may be. What is no fault the API server refuses.
func testLinkFault(ctx context.Context, t *testing.T, c *cluster.Cluster, h Hands) {
	change := Change{Kind: KindAPI, Context: "east", Name: "west", Fault: &Fault{Cluster: "west", Mode: ModeDrop}}
	if err := LinkBreaks(ctx, c, "west"); !apierrors.IsNotFound(err) {
		t.Errorf("a link that there is not: %v", err)
	}
	if err := change.Undo(ctx, h); err != nil {
		t.Errorf("undone where there is no link: %v", err)
	}
	objs, err := cluster.Parse([]byte("apiVersion: isthmus.dev/v1alpha1\nkind: ClusterLink\nmetadata: {name: west}\nspec: {cluster: west}\n"))
	if err == nil {
		err = c.Apply(ctx, api.SystemNamespace, objs...)
	}
	if err == nil {
		err = LinkBreaks(ctx, c, "west")
	}
	if got := linkFault(ctx, t, c); err != nil || got != nil {
		t.Fatalf("asked whether it may be: %+v, %v", got, err)
	}
	if err := change.Make(ctx, h); err != nil {
		t.Fatal(err)
	}
	first := linkFault(ctx, t, c)
	if first == nil || first.APIServer != "drop" || first.Seconds != 10 {
		t.Fatalf("%+v", first)
	}
	if err := renew(ctx, h, []Change{change}); err != nil {
		t.Fatal(err)
	}
	if again := linkFault(ctx, t, c); again.Renewed.Equal(&first.Renewed) {
		t.Errorf("renewed, it is the same: %v", again)
	}
	if err := c.Apply(ctx, api.SystemNamespace, objs...); err != nil || linkFault(ctx, t, c) == nil {
		t.Errorf("linked anew, it has none: %v", err)
	}
	for range 2 {
		if err := change.Undo(ctx, h); err != nil || linkFault(ctx, t, c) != nil {
			t.Errorf("undone: %v", err)
		}
	}
	for _, bad := range []v1alpha1.LinkFault{{APIServer: "melt", Seconds: 10}, {APIServer: "drop"}, {APIServer: "drop", Seconds: 61}} {
		if err := setFault(ctx, c, "west", &bad); !apierrors.IsInvalid(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Where the gateway is reached by nodes' addresses, so is the relay.
func testRelayOfNodePort(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	relay := Relay{Image: "example/samples", Type: corev1.ServiceTypeNodePort}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}}
	if _, err := c.Kube.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "one"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.7"}}
	if _, err := c.Kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, api.SystemNamespace, relay.objects()...); err != nil {
		t.Fatal(err)
	}
	address, err := relayAddress(ctx, c)
	if err != nil || !strings.HasPrefix(address, "192.0.2.7:3") {
		t.Errorf("the relay is at %q, %v", address, err)
	}
	if ours, err := leadsToRelay(ctx, c, address); err != nil || !ours {
		t.Errorf("%s does not lead to the relay: %v", address, err)
	}
	if err := c.Delete(ctx, api.SystemNamespace, relay.objects()...); err != nil {
		t.Error(err)
	}
}

// Whoever cannot renew in time says so, and has nothing to renew where nothing fades.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the cluster is gone")
		h := Hands{Open: func(string) (*cluster.Cluster, error) { return nil, gone }}
		fading := Change{Kind: KindGateway, Fault: &Fault{Cluster: "west", Mode: ModeDrop}}
		began := time.Now()
		if err := Keep(t.Context(), h, []Change{fading}); !errors.Is(err, gone) || time.Since(began) < faultLife {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), faultLife-time.Second)
		defer cancel()
		if err := Keep(ctx, h, []Change{fading}); err != nil {
			t.Errorf("before it ends: %v", err)
		}
		if err := Keep(t.Context(), h, []Change{{Kind: KindScale}}); err != nil {
			t.Error(err)
		}
	})
}
