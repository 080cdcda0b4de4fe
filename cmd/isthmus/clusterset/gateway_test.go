package clusterset

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

func gatewayService(kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: api.SystemNamespace, Name: api.EastWestName, Labels: map[string]string{api.LabelGateway: api.GatewayEastWest}},
		Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{
			{Name: "tls-eastwest", Port: 15443, NodePort: 31443}, {Name: "http-status", Port: 15021, NodePort: 31021},
		}},
	}
}

func testNode(name string, addresses ...corev1.NodeAddress) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: addresses}}
}

// A gateway's addresses are those that the control plane derives (federation/ingest).
func TestOutside(t *testing.T) {
	nodes := []*corev1.Node{
		testNode("a", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}),
		testNode("b", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.2"}, corev1.NodeAddress{Type: corev1.NodeHostName, Address: "b"}),
	}
	for name, test := range map[string]struct {
		kind   corev1.ServiceType
		change func(*corev1.Service)
		want   []string
	}{
		"node port":        {corev1.ServiceTypeNodePort, func(*corev1.Service) {}, []string{"10.0.0.2:31443", "192.0.2.1:31443"}},
		"balancer without": {corev1.ServiceTypeLoadBalancer, func(*corev1.Service) {}, nil},
		"by hand": {corev1.ServiceTypeNodePort, func(s *corev1.Service) {
			s.Annotations = map[string]string{api.AnnotationGatewayAddresses: "192.0.2.9:1, 192.0.2.8:2"}
		}, []string{"192.0.2.8:2", "192.0.2.9:1"}},
		"another gateway's port": {corev1.ServiceTypeNodePort, func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[1:] }, nil},
		"balancer": {corev1.ServiceTypeLoadBalancer, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.5"}}
		}, []string{"192.0.2.5:15443"}},
		"another number": {corev1.ServiceTypeLoadBalancer, func(s *corev1.Service) {
			s.Spec.Ports[0].Port, s.Spec.Ports[0].TargetPort.IntVal = 443, 15443
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.5"}}
		}, []string{"192.0.2.5:443"}},
		"external": {corev1.ServiceTypeClusterIP, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.6"} }, []string{"192.0.2.6:15443"}},
	} {
		s := gatewayService(test.kind)
		test.change(s)
		in, changes := ingest.NewInputs(testDomain(t), api.SystemNamespace), ingest.Changes{}
		in.SetCluster(ingest.ClusterState{Name: "east", Local: true}, &changes)
		in.Set("east", ingest.SlimService(s), &changes)
		var slim []*ingest.Node
		for _, n := range nodes {
			slim = append(slim, ingest.SlimNode(n))
			in.Set("east", ingest.SlimNode(n), &changes)
		}
		east := ingest.Build(nil, in, changes).Cluster("east")
		var derived []string
		for _, g := range east.Gateways {
			derived = append(derived, g.Addr.String())
		}
		slices.Sort(derived)
		got := ingest.GatewayAddresses(ingest.SlimService(s), slices.Values(slim))
		slices.Sort(got)
		if !slices.Equal(got, test.want) || !slices.Equal(derived, test.want) {
			t.Errorf("%s: got %v, the control plane %v, want %v", name, got, derived, test.want)
		}
	}
}

// On a real API server: no load balancer is said once, in time, and by the error;
// a NodePort's addresses are its nodes'.
func TestGatewayAddresses(t *testing.T) {
	c := startCluster(t, "east")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: api.SystemNamespace}}
	if _, err := c.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node, err := c.Kube.CoreV1().Nodes().Create(ctx, testNode("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	if _, err := c.Kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	services := c.Kube.CoreV1().Services(api.SystemNamespace)
	s := gatewayService(corev1.ServiceTypeLoadBalancer)
	if s, err = services.Create(ctx, s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var said []string
	wait := gatewayWait{patience: 3 * time.Second, notice: 100 * time.Millisecond, say: func(text string) { said = append(said, text) }}
	_, err = wait.addresses(ctx, c, api.SystemNamespace)
	missing, ok := errors.AsType[NoAddressError](err)
	if !ok || !errors.Is(err, context.DeadlineExceeded) || missing.Next() != "isthmus install east --set gateway.serviceType=NodePort, or --gateway-address HOST:PORT" {
		t.Errorf("error %v", err)
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "wait") || !strings.Contains(said[0], missing.Next()) {
		t.Errorf("said %q", said)
	}
	s.Spec.Type = corev1.ServiceTypeNodePort
	if _, err := services.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:31443"}
	wait.patience = 30 * time.Second
	if got, err := wait.addresses(ctx, c, api.SystemNamespace); err != nil || !slices.Equal(got, want) {
		t.Errorf("waited for %v, %v", got, err)
	}
	if got, err := GatewaysNow(ctx, c, api.SystemNamespace); err != nil || !slices.Equal(got, want) {
		t.Errorf("now %v, %v", got, err)
	}
}
