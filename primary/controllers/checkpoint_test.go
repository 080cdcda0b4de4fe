package controllers

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// A cluster's ready pods are counted for its ports that serve one of the import's:
// those of its number, whatever they are called. (mcs.Resolve)
func TestCheckpointCounts(t *testing.T) {
	for own, want := range map[federation.Port]int{
		{Name: "http", Number: 9080}: 1,
		{Name: "web", Number: 9080}:  1,
		{Name: "http", Number: 9081}: 0, // its name is another number's
		{Name: "web", Number: 9081}:  0,
	} {
		e := export("west", func(e *federation.Export) { e.Ports = []federation.Port{own} })
		svc := reviews([]federation.Export{e}, endpoint(t, "west", "net2", "10.1.0.1", true))
		svc.Endpoints[0].Ports = append(svc.Endpoints[0].Ports, federation.EndpointPort{Service: 9081, Target: 8081})
		got := checkpoint(snapshot([]*federation.Cluster{cluster("east", "net1"), cluster("west", "net2", gateway)}, svc), svc, &e, nil)
		if len(got.Ready) != want || want == 1 && got.Ready[0].Port != own.Number {
			t.Errorf("%s %d: %+v, want %d", own.Name, own.Number, got.Ready, want)
		}
	}
}
