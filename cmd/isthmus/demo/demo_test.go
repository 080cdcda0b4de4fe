package demo

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestSum(t *testing.T) {
	text := `# HELP istio_tcp_connections_opened_total TCP connections opened.
istio_tcp_connections_opened_total{reporter="source",x="a b"} 3
istio_tcp_connections_opened_total{reporter="destination"} 4
istio_tcp_connections_opened_total_more 9
istio_tcp_connections_closed_total{} 5
`
	if got, err := sum([]byte(text), openedMetric); err != nil || got != 7 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := sum([]byte(openedMetric+" many"), openedMetric); err == nil {
		t.Error("a value that is no number was taken")
	}
}

// The hop is read from the very form in which a proxy prints its assignment.
func TestHop(t *testing.T) {
	about, err := structpb.NewStruct(map[string]any{"cluster": "west", "network": "net-west", "via": "gateway"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&endpointv3.ClusterLoadAssignment{
		ClusterName: "x",
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
				SocketAddress: &corev3.SocketAddress{Address: "172.30.2.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 15443}},
			}}}},
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"isthmus": about}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var a assignment
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	want := Hop{Address: "172.30.2.1:15443", Via: "gateway", Cluster: "west", Network: "net-west"}
	if got, ok := a.hop("west"); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	if _, ok := a.hop("east"); ok {
		t.Error("a hop to east")
	}
}

func TestManifests(t *testing.T) {
	objs, err := Manifests("east")
	if err != nil {
		t.Fatal(err)
	}
	if objs[0].GetKind() != "Namespace" || objs[0].GetLabels()["istio-injection"] != "enabled" {
		t.Errorf("first: %v", objs[0])
	}
	seen := map[string]bool{}
	for _, obj := range objs {
		seen[obj.GetKind()+"/"+obj.GetName()] = true
		if obj.GetName() == "productpage-v1" {
			containers, _, _ := unstructured.NestedSlice(obj.Object, "spec", "template", "spec", "containers")
			if text, _ := json.Marshal(containers); !strings.Contains(string(text), servicesDomain) {
				t.Errorf("productpage calls no clusterset names: %s", text)
			}
		}
	}
	for _, want := range []string{"ConfigMap/cluster", "Deployment/reviews-v3", "Deployment/client", "Service/details", "ServiceAccount/bookinfo-ratings"} {
		if !seen[want] {
			t.Errorf("no %s", want)
		}
	}
}

// A path is complete only when the identity arrived and nothing is amiss.
func TestPathCheck(t *testing.T) {
	good := Path{Status: 200, Client: Client{Cluster: "east", Identity: "spiffe://a"}, Proxy: Hop{Via: "gateway"}, Gateway: Passage{Cluster: "west", Before: 1, After: 2}}
	good.Server.Cluster, good.Server.Caller.ID, good.Server.Caller.Cluster = "west", "spiffe://a", "east"
	for name, change := range map[string]func(*Path){
		"":                           func(*Path) {},
		"not in west":                func(p *Path) { p.Server.Cluster = "east" },
		"without mTLS":               func(p *Path) { p.Server.Caller.ID, p.Client.Identity = "", "" },
		"names the cluster":          func(p *Path) { p.Server.Caller.Cluster = "north" },
		"another identity":           func(p *Path) { p.Client.Identity = "spiffe://b" },
		`via "direct"`:               func(p *Path) { p.Proxy.Via = "direct" },
		"the gateway counted no new": func(p *Path) { p.Gateway.After = 1 },
	} {
		p := good
		change(&p)
		p.check("east", "west")
		if name == "" {
			if !p.complete() {
				t.Errorf("not complete: %q", p.Problems)
			}
			continue
		}
		if p.complete() || !strings.Contains(strings.Join(p.Problems, "; "), name) {
			t.Errorf("%s: problems %q", name, p.Problems)
		}
	}
}

// A pod without a sidecar is seen as the entry gateway of its cluster, by a server of the other.
func TestPlainCheck(t *testing.T) {
	const entry = "spiffe://cluster.local/ns/isthmus-system/sa/isthmus-entry"
	for text, change := range map[string]func(p *Plain, containers *int){
		"":                  func(*Plain, *int) {},
		"sidecar after all": func(_ *Plain, n *int) { *n = 2 },
		"not in west":       func(p *Plain, _ *int) { p.Server.Cluster = "east" },
		"saw the caller":    func(p *Plain, _ *int) { p.Server.Caller.ID = "spiffe://cluster.local/ns/bookinfo/sa/default" },
		"names the cluster": func(p *Plain, _ *int) { p.Server.Caller.Cluster = "west" },
	} {
		p, containers := Plain{Status: 200}, 1
		p.Server.Cluster, p.Server.Caller.ID, p.Server.Caller.Cluster = "west", entry, "east"
		change(&p, &containers)
		p.check(containers, "east", "west")
		if p.complete() != (text == "") || !strings.Contains(strings.Join(p.Problems, "; "), text) {
			t.Errorf("%q: problems %q", text, p.Problems)
		}
	}
}
