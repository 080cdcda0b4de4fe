package controllers

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

func entries(addrs ...string) func(*federation.Cluster) {
	return func(c *federation.Cluster) {
		for _, a := range addrs {
			c.Entries = append(c.Entries, netip.MustParseAddr(a))
		}
	}
}

// twoPorts gives a service the ports 9080 and 9090, and every endpoint both.
func twoPorts(svc *federation.Service) *federation.Service {
	ports := []federation.Port{{Name: "http", Number: 9080, Protocol: federation.ProtocolHTTP}, {Name: "tcp", Number: 9090, Protocol: federation.ProtocolTCP}}
	svc.Ports = ports
	for i := range svc.Exports {
		svc.Exports[i].Ports, svc.Exports[i].Numbers = ports, []uint16{9080, 9090}
	}
	for i := range svc.Endpoints {
		svc.Endpoints[i].Ports = []federation.EndpointPort{{Service: 9080, Target: 8080}, {Service: 9090, Target: 8090}}
	}
	return svc
}

// told says that the snapshot has the entry ports.
func told(svc *federation.Service) *federation.Service {
	for port, entry := range twoEntryPorts().Entry {
		svc.EntryPorts = append(svc.EntryPorts, federation.EntryPort{Cluster: "east", Service: port, Port: entry})
	}
	return svc
}

func twoEntryPorts() given { return given{Entry: map[uint16]uint16{9080: 20001, 9090: 20002}} }

// show tells slices in words: name, annotation, endpoints with readiness, ports.
func show(all []*discoveryv1.EndpointSlice) string {
	var out []string
	for _, s := range all {
		text := strings.TrimPrefix(s.Name, derivedName(reviewsKey)+"-")
		if ports := s.Annotations[api.AnnotationEntryPorts]; ports != "" {
			text += " {" + ports + "}"
		}
		for _, e := range s.Endpoints {
			ready := "+"
			if !*e.Conditions.Ready {
				ready = "-"
			}
			text += " " + ready + e.Addresses[0]
			if e.TargetRef != nil {
				text += "=" + e.TargetRef.Name
			}
		}
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s:%d", *p.Name, *p.Port)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// Slices of other networks: where, for which ports and when callers without a
// sidecar are sent to the entry gateway. (issue: own pods come first, as in the mesh)
func TestEntrySlices(t *testing.T) {
	east, west := cluster("east", "net1", entries("10.1.9.1", "10.1.9.2")), cluster("west", "net2", gateway)
	bare := cluster("east", "net1")
	far := func(change ...func(*federation.Export)) *federation.Service {
		return twoPorts(reviews([]federation.Export{export("west", change...)}, endpoint(t, "west", "net2", "10.1.0.1", true)))
	}
	half := told(far())
	half.Endpoints[0].Ports = half.Endpoints[0].Ports[:1]
	own := told(twoPorts(reviews([]federation.Export{export("east"), export("west")}, endpoint(t, "east", "net1", "10.1.0.1", false), endpoint(t, "west", "net2", "10.1.0.1", true))))
	ownHidden := told(twoPorts(reviews([]federation.Export{export("near", func(e *federation.Export) { e.Hidden = true }), export("west")},
		endpoint(t, "near", "net1", "10.2.0.1", true), endpoint(t, "west", "net2", "10.1.0.1", true))))
	ownDown := told(twoPorts(reviews([]federation.Export{export("east"), export("west")}, endpoint(t, "east", "net1", "10.1.0.1", false), endpoint(t, "west", "net2", "10.1.0.1", true))))
	ownDown.Endpoints[0].Health = federation.NotReady
	plain := told(far())
	plain.Endpoints[0].Tunnel = federation.TunnelNone
	counted := told(far())
	counted.Endpoints, counted.Counts = nil, []federation.RemoteCount{{Cluster: "west", Network: "net2", Port: 9080, Ready: 2}}
	other := told(far())
	other.EntryPorts[0].Port++
	other.EntryPorts[1].Port++
	one := far()
	one.Exports[0].Numbers = one.Exports[0].Numbers[:1]

	for name, test := range map[string]struct {
		clusters []*federation.Cluster
		svc      *federation.Service
		want     string
	}{
		"known to the gateway":                  {[]*federation.Cluster{east, west}, told(far()), "west {9080=20001,9090=20002} +10.1.9.1 +10.1.9.2 http:20001 tcp:20002"},
		"not known to the gateway yet":          {[]*federation.Cluster{east, west}, far(), "west {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 http:20001 tcp:20002"},
		"known with another port":               {[]*federation.Cluster{east, west}, other, "west {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 http:20001 tcp:20002"},
		"nobody answers at one of two ports":    {[]*federation.Cluster{east, west}, half, "west {9080=20001,9090=20002} +10.1.9.1 +10.1.9.2 http:20001; west-2 {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 tcp:20002"},
		"the far pod has no sidecar":            {[]*federation.Cluster{east, west}, plain, "west {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 http:20001 tcp:20002"},
		"only counted":                          {[]*federation.Cluster{east, west}, counted, "west {9080=20001,9090=20002} +10.1.9.1 +10.1.9.2 http:20001; west-2 {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 tcp:20002"},
		"own pods come first":                   {[]*federation.Cluster{east, west}, own, "east +10.1.0.1 http:8080 tcp:8090; west {9080=20001,9090=20002} -10.1.9.1 -10.1.9.2 http:20001 tcp:20002"},
		"own pods that are not ready do not":    {[]*federation.Cluster{east, west}, ownDown, "east -10.1.0.1 http:8080 tcp:8090; west {9080=20001,9090=20002} +10.1.9.1 +10.1.9.2 http:20001 tcp:20002"},
		"nor do hidden ones, nor have a slice":  {[]*federation.Cluster{east, west, cluster("near", "net1")}, ownHidden, "west {9080=20001,9090=20002} +10.1.9.1 +10.1.9.2 http:20001 tcp:20002"},
		"no gateway: the ports stay":            {[]*federation.Cluster{bare, west}, told(far()), "west {9080=20001,9090=20002}"},
		"refused by the export":                 {[]*federation.Cluster{east, west}, told(far(func(e *federation.Export) { e.NoEntry = true })), "west"},
		"only what the source exposes":          {[]*federation.Cluster{east, west}, told(one), "west {9080=20001} +10.1.9.1 +10.1.9.2 http:20001"},
		"both families":                         {[]*federation.Cluster{cluster("east", "net1", entries("10.1.9.1", "fd00::1")), west}, told(far()), "west {9080=20001,9090=20002} +10.1.9.1 http:20001 tcp:20002; west-2 {9080=20001,9090=20002} +fd00::1 http:20001 tcp:20002"},
		"on one network there is nothing of it": {[]*federation.Cluster{east, cluster("west", "net1")}, twoPorts(reviews([]federation.Export{export("west")}, endpoint(t, "west", "net1", "10.2.0.1", true))), "west +10.2.0.1 http:8080 tcp:8090"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planImport(snapshot(test.clusters, test.svc), "east", reviewsKey, importState{NamespaceActive: true}, twoEntryPorts())
			if got := show(plan.Slices); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			waits := slices.ContainsFunc(plan.Notes, func(p federation.Problem) bool { return p.Reason == "NoEntryGateway" })
			if waits != (test.clusters[0] == bare) {
				t.Errorf("notes %v", plan.Notes)
			}
		})
	}
}

// What is only remembered of a cluster stays, but today's entry gateway serves it.
func TestEntrySlicesOfUnreadCluster(t *testing.T) {
	svc := told(twoPorts(reviews([]federation.Export{export("west", func(e *federation.Export) { e.Checkpoint = true })})))
	svc.Counts = []federation.RemoteCount{{Cluster: "west", Network: "net2", Port: 9080, Ready: 2}, {Cluster: "west", Network: "net2", Port: 9090, Ready: 2}}
	old := slice("west")
	old.Annotations = map[string]string{api.AnnotationCheckpoint: "as it was", api.AnnotationEntryPorts: "9080=20001,9090=20002"}
	have := importState{NamespaceActive: true, Slices: []discoveryv1.EndpointSlice{old}}
	s := snapshot([]*federation.Cluster{cluster("east", "net1", entries("10.1.9.7")), cluster("west", "net2", unread)}, svc)
	plan := planImport(s, "east", reviewsKey, have, twoEntryPorts())
	if got := show(plan.Slices); got != "west {9080=20001,9090=20002} +10.1.9.7 http:20001 tcp:20002" || plan.Slices[0].Annotations[api.AnnotationCheckpoint] != "as it was" {
		t.Errorf("slices %s", got)
	}
	want, known := wantNumbers(s, "east", reviewsKey, have)
	if !known || len(want.Ports) != 2 {
		t.Errorf("numbers %v, %v", want, known)
	}
}

// Pods of headless exports on other networks stand at synthetic addresses.
func TestSyntheticSlices(t *testing.T) {
	east, west := cluster("east", "net1", entries("10.1.9.1")), cluster("west", "net2", gateway)
	pod := func(name, addr string, mtls bool) federation.Endpoint {
		e := endpoint(t, "west", "net2", addr, mtls)
		e.Pod, e.Hostname, e.Locality.Zone = name, name, "z1"
		return e
	}
	svc := reviews([]federation.Export{export("west")}, pod("db-0", "10.1.0.1", true), pod("db-0", "fd00::1", true), pod("db-1", "10.1.0.2", true), pod("db-2", "10.1.0.3", false), pod("db-3", "10.1.0.4", true))
	svc.Headless = true
	svc.Endpoints[4].Health = federation.NotReady
	at := netip.MustParseAddr
	nums := given{Synthetic: map[podOf]netip.Addr{{"west", "db-0"}: at("240.241.0.5"), {"west", "db-1"}: at("240.241.0.6"), {"west", "db-3"}: at("240.241.0.7")}}
	svc.Synthetic = []federation.Synthetic{{In: "east", Of: "west", Pod: "db-0", Addr: at("240.241.0.5")}, {In: "east", Of: "west", Pod: "db-3", Addr: at("240.241.0.7")}}
	s := snapshot([]*federation.Cluster{east, west}, svc)
	plan := planImport(s, "east", reviewsKey, importState{NamespaceActive: true}, nums)
	if got, want := show(plan.Slices), "west +240.241.0.5=db-0 -240.241.0.6=db-1 -240.241.0.7=db-3 http:8080"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	slice := plan.Slices[0]
	if _, ok := slice.Labels[corev1.IsHeadlessService]; !ok || *slice.Endpoints[0].Hostname != "db-0" || *slice.Endpoints[0].Zone != "z1" || slice.Endpoints[0].TargetRef.Namespace != "shop" {
		t.Errorf("slice %+v", slice)
	}
	want, known := wantNumbers(s, "east", reviewsKey, importState{NamespaceActive: true})
	if !known || len(want.Pods) != 3 || len(want.Ports) != 0 {
		t.Errorf("numbers %v", want)
	}
	if back := syntheticOf(slice); len(back) != 3 || back[podOf{"west", "db-1"}] != at("240.241.0.6") {
		t.Errorf("read back %v", back)
	}
}

// An export that names its importers, and not us, is as if it were not there.
func TestHidden(t *testing.T) {
	hide := func(e *federation.Export) { e.Hidden = true }
	clusters := []*federation.Cluster{cluster("east", "net1"), cluster("west", "net2")}
	had := importState{NamespaceActive: true, Import: managedImport(), Slices: []discoveryv1.EndpointSlice{slice("west")}}
	only := reviews([]federation.Export{export("west", hide)}, endpoint(t, "west", "net2", "10.1.0.1", true))
	only.Ports = nil // as ingest has it
	if plan := planImport(snapshot(clusters, only), "east", reviewsKey, had, given{}); !plan.Delete {
		t.Errorf("only hidden: %s", print(plan))
	}
	some := reviews([]federation.Export{export("east"), export("west", hide)}, endpoint(t, "east", "net1", "10.1.0.1", true), endpoint(t, "west", "net2", "10.1.0.1", true))
	plan := planImport(snapshot(clusters, some), "east", reviewsKey, had, given{})
	if got := print(plan); got != `derived ip=""; import ClusterSetIP ports=1; slice east [10.1.0.1]` {
		t.Errorf("one hidden: %s", got)
	}
	if status := wantImportStatus(managedImport(), plan, had.Slices, fixed()); len(status.Clusters) != 1 || status.Clusters[0].Cluster != "east" {
		t.Errorf("status %v", status.Clusters)
	}
	lost := reviews([]federation.Export{export("west", hide)})
	lost.Declared = &federation.Declared{}
	if plan := planImport(snapshot(clusters, lost), "east", reviewsKey, had, given{}); plan.Import == nil {
		t.Error("the import goes while those who export to here are lost")
	}
}

func TestStranger(t *testing.T) {
	theirs := importState{NamespaceActive: true, Import: &mcsv1beta1.ServiceImport{}}
	east := cluster("east", "net1")
	if plan := planImport(snapshot([]*federation.Cluster{east}), "east", reviewsKey, theirs, given{}); !plan.Stranger || plan.Delete {
		t.Errorf("%s", print(plan))
	}
	if plan := planImport(snapshot([]*federation.Cluster{east, cluster("west", "net2", unread)}), "east", reviewsKey, theirs, given{}); plan.Stranger {
		t.Error("nobody exports it, though west was not asked")
	}
	if plan := planImport(snapshot([]*federation.Cluster{east}), "east", reviewsKey, importState{NamespaceActive: true}, given{}); plan.Stranger {
		t.Error("there is no import")
	}
}

// A port that several clusters export counts for the oldest exporter's share.
func TestPortIsOldestExporters(t *testing.T) {
	since := func(hour int) func(*federation.Export) {
		return func(e *federation.Export) { e.Since = noon.Add(time.Duration(hour) * time.Hour) }
	}
	svc := reviews([]federation.Export{export("north", since(1)), export("west", since(0))})
	s := snapshot([]*federation.Cluster{cluster("east", "net1"), cluster("north", "net3"), cluster("west", "net2")}, svc)
	want, known := wantNumbers(s, "east", reviewsKey, importState{NamespaceActive: true})
	if !known || len(want.Ports) != 1 || want.Ports[9080] != "west" {
		t.Errorf("numbers %v, %v", want, known)
	}
}

// Callers without a sidecar leave a drained cluster too, its own and those of its
// network, wherever somebody else answers at a port; while nobody does they stay,
// and a pod of a headless service is chosen by its caller.
func TestDrainedSlices(t *testing.T) {
	drained := func(c *federation.Cluster) { c.Drain = &federation.Drain{Stage: federation.Draining} }
	back := func(c *federation.Cluster) { c.Drain = &federation.Drain{Stage: federation.Returning, Share: 50} }
	east := func(change ...func(*federation.Cluster)) *federation.Cluster {
		return cluster("east", "net1", append(change, entries("10.1.9.1"))...)
	}
	west := func(change ...func(*federation.Cluster)) *federation.Cluster {
		return cluster("west", "net2", append(change, gateway)...)
	}
	both := func() *federation.Service {
		return told(twoPorts(reviews([]federation.Export{export("east"), export("west")}, endpoint(t, "east", "net1", "10.1.0.1", true), endpoint(t, "west", "net2", "10.2.0.1", true))))
	}
	half := both()
	half.Endpoints[1].Ports = half.Endpoints[1].Ports[:1]
	near := twoPorts(reviews([]federation.Export{export("east"), export("near")}, endpoint(t, "east", "net1", "10.1.0.1", true), endpoint(t, "near", "net1", "10.1.0.2", true)))
	datagrams := told(both())
	datagrams.Endpoints[0].Others = []federation.OtherPort{{Transport: "UDP", Service: 53, Target: 53}}
	alone := told(twoPorts(reviews([]federation.Export{export("west")}, endpoint(t, "west", "net2", "10.2.0.1", true))))
	headless := both()
	headless.Headless = true
	const (
		own    = "east +10.1.0.1 http:8080 tcp:8090"
		held   = "east -10.1.0.1 http:8080 tcp:8090"
		entry  = "; west {9080=20001,9090=20002} +10.1.9.1 http:20001 tcp:20002"
		shut   = "; west {9080=20001,9090=20002} -10.1.9.1 http:20001 tcp:20002"
		halves = "; west {9080=20001,9090=20002} +10.1.9.1 http:20001; west-2 {9080=20001,9090=20002} -10.1.9.1 tcp:20002"
	)
	for name, test := range map[string]struct {
		clusters []*federation.Cluster
		svc      *federation.Service
		want     string
	}{
		"nobody is drained":                {[]*federation.Cluster{east(), west()}, both(), own + shut},
		"the own one is":                   {[]*federation.Cluster{east(drained), west()}, both(), held + entry},
		"the own one comes back":           {[]*federation.Cluster{east(back), west()}, both(), held + entry},
		"the other one is":                 {[]*federation.Cluster{east(), west(drained)}, both(), own + shut},
		"both are: as if nobody was":       {[]*federation.Cluster{east(drained), west(drained)}, both(), own + shut},
		"the other answers at one port":    {[]*federation.Cluster{east(drained), west()}, half, own + halves},
		"nobody else carries datagrams":    {[]*federation.Cluster{east(drained), west()}, datagrams, own + entry},
		"no entry gateway":                 {[]*federation.Cluster{cluster("east", "net1", drained), west()}, both(), own + "; west {9080=20001,9090=20002}"},
		"the other is there alone":         {[]*federation.Cluster{east(), west(drained)}, alone, entry[2:]},
		"a neighbour on the same network":  {[]*federation.Cluster{east(drained), cluster("near", "net1")}, near, held + "; near +10.1.0.2 http:8080 tcp:8090"},
		"the neighbour is drained instead": {[]*federation.Cluster{east(), cluster("near", "net1", drained)}, near, own + "; near -10.1.0.2 http:8080 tcp:8090"},
		"headless":                         {[]*federation.Cluster{east(drained), west()}, headless, own + "; west"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planImport(snapshot(test.clusters, test.svc), "east", reviewsKey, importState{NamespaceActive: true}, twoEntryPorts())
			if got := show(plan.Slices); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			for _, s := range plan.Slices { // a control plane that reads it as a checkpoint must not take it for a failed one
				slim := ingest.SlimSlice(s)
				for i, e := range slim.Endpoints {
					if strings.HasSuffix(s.Name, "east") && e.Health != federation.Ready {
						t.Errorf("endpoint %d of %s is read as %v", i, s.Name, e.Health)
					}
				}
			}
		})
	}
}

// Whoever takes over is written before whoever is left, whatever their names.
func TestReadyFirst(t *testing.T) {
	mk := func(name string, ready ...bool) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{}
		s.Name = name
		for _, r := range ready {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: new(r)}})
		}
		return s
	}
	var got []string
	for _, s := range readyFirst([]*discoveryv1.EndpointSlice{mk("a", false), mk("b"), mk("c", false, true), mk("d", true)}) {
		got = append(got, s.Name)
	}
	if want := []string{"c", "d", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
