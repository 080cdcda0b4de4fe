package precheck

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

func TestSynthetic(t *testing.T) {
	used := Used{
		Pods: appendRanges(nil, "10.10.0.0/16", "fd00::/64", "240.241.3.4", ""), Services: appendRanges(nil, "10.11.0.0/16", "None", "10.11.0.0/16"),
		Nodes: appendRanges(nil, "172.30.1.1", "node-1"),
	}
	if len(used.Pods) != 3 || len(used.Services) != 1 || len(used.Nodes) != 1 {
		t.Fatalf("used %+v", used)
	}
	for text, want := range map[string]string{
		"240.240.0.0/16": "",
		"240.241.0.0/16": "240.241.3.4/32 of pods",
		"10.8.0.0/13":    "10.10.0.0/16 of pods, 10.11.0.0/16 of services",
		"172.30.1.0/24":  "172.30.1.1/32 of nodes",
		"nonsense":       "is no address range",
	} {
		f := Synthetic("east", text, used)
		if (f.State == OK) != (want == "") || !strings.Contains(f.Message, want) || (f.Next == "") != (want == "") {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

// On a real API server: its range of services is found, with that of a node's pods.
func TestAddresses(t *testing.T) {
	env := testenv.Start(t)
	c, err := cluster.New("east", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{PodCIDR: "240.241.7.0/24", PodCIDRs: []string{"240.241.7.0/24"}}}
	if _, err := env.Client(t).CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	used, err := Addresses(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(used.Services) == 0 || used.Overlap(used.Services[0]) == "" || used.Overlap(netip.MustParsePrefix(DefaultSynthetic)) != "240.241.7.0/24 of pods" {
		t.Errorf("used %+v", used)
	}
	byWhat := map[string]Finding{}
	for _, f := range Run(t.Context(), []*cluster.Cluster{c}).Findings {
		byWhat[f.What] = f
	}
	if f := byWhat["synthetic range"]; f.State != Bad || !strings.Contains(f.Next, "--set syntheticRange") {
		t.Errorf("%+v", f)
	}
	if f := byWhat["import guard"]; f.State != OK {
		t.Errorf("%+v", f)
	}
}
