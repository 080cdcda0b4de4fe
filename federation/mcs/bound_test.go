package mcs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// An import has so many ports at most; the oldest export's have their place, and
// the others hear of theirs.
func TestUnionIsBounded(t *testing.T) {
	export := func(cluster federation.ClusterName, since int64, first, n int) Export {
		e := Export{Cluster: cluster, Since: at(since)}
		for i := range n {
			e.Ports = append(e.Ports, Port{Name: fmt.Sprint("p", first+i), Transport: TCP, Number: uint16(first + i)})
		}
		return e
	}
	got := Merge([]Export{export("young", 2, 200, 100), export("old", 1, 1, 200)})
	if len(got.Ports) != federation.MaxCheckpointPorts || len(got.LeftOut) != 43 {
		t.Fatalf("%d ports, %d left out", len(got.Ports), len(got.LeftOut))
	}
	if first := (Left{"young", TCP, 257}); got.LeftOut[0] != first || !slices.ContainsFunc(got.Ports, func(p Port) bool { return p.Number == 256 }) {
		t.Errorf("left out first %v", got.LeftOut[0])
	}
}

// Services made of the import give a name to a port that has none; another
// export's port must not have it.
func TestUnnamedPortsTakeAName(t *testing.T) {
	a, b := Port{Transport: TCP, Number: 80}, Port{Name: "port-80", Transport: TCP, Number: 81}
	for _, c := range [][2]Port{{a, b}, {b, a}} {
		got := Merge([]Export{{Cluster: "a", Since: at(1), Ports: c[:1]}, {Cluster: "b", Since: at(2), Ports: c[1:]}})
		if !slices.Equal(got.Ports, c[:1]) {
			t.Errorf("ports %v of %v", got.Ports, c)
		}
	}
}
