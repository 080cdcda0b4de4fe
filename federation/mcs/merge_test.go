package mcs

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
)

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func TestMergePorts(t *testing.T) {
	for name, c := range map[string]struct {
		exports []Export
		want    string
	}{
		"union": {
			[]Export{{Cluster: "a", Since: at(1), Ports: []Port{{Name: "http", Transport: TCP, Number: 80}}}, {Cluster: "b", Since: at(2), Ports: []Port{{Name: "admin", Transport: TCP, Number: 90}}}},
			"http 80/TCP, admin 90/TCP",
		},
		"one name, the oldest number": {
			[]Export{{Cluster: "a", Since: at(2), Ports: []Port{{Name: "http", Transport: TCP, Number: 80}}}, {Cluster: "b", Since: at(1), Ports: []Port{{Name: "http", Transport: TCP, Number: 81}}}},
			"http 81/TCP",
		},
		"one number, the oldest name": {
			[]Export{{Cluster: "a", Since: at(1), Ports: []Port{{Name: "http", Transport: TCP, Number: 80}}}, {Cluster: "b", Since: at(2), Ports: []Port{{Name: "web", Transport: TCP, Number: 80}}}},
			"http 80/TCP",
		},
		"no name is a name": {
			[]Export{{Cluster: "a", Since: at(1), Ports: []Port{{Transport: TCP, Number: 80}}}, {Cluster: "b", Since: at(2), Ports: []Port{{Transport: TCP, Number: 81}}}},
			"80/TCP",
		},
		"transports apart": {
			[]Export{{Cluster: "a", Since: at(1), Ports: []Port{{Name: "dns", Transport: "UDP", Number: 53}}}, {Cluster: "b", Since: at(2), Ports: []Port{{Name: "dns-tcp", Transport: TCP, Number: 53}}}},
			"dns-tcp 53/TCP, dns 53/UDP",
		},
		"equally old: by name of the cluster": {
			[]Export{{Cluster: "b", Since: at(1), Ports: []Port{{Name: "p", Transport: TCP, Number: 2}}}, {Cluster: "a", Since: at(1), Ports: []Port{{Name: "p", Transport: TCP, Number: 1}}}},
			"p 1/TCP",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := portsText(Merge(c.exports).Ports); got != c.want {
				t.Errorf("ports %s, want %s", got, c.want)
			}
		})
	}
}

// Each property is decided by the oldest, and every difference is told with
// the winner, its value and how many disagree.
func TestMergeProperties(t *testing.T) {
	oldest := Export{Cluster: "z", Since: at(1), Headless: true, Spec: Spec{SessionAffinity: "ClientIP", AffinitySeconds: 10, InternalTrafficPolicy: "Local", TrafficDistribution: "PreferClose", Families: []string{"IPv6", "IPv4"}}, Labels: map[string]string{"a": "1"}, Annotations: map[string]string{"b": "2"}}
	other := Export{Cluster: "a", Since: at(2), Ports: []Port{{Name: "p", Transport: TCP, Number: 1}}}
	same := oldest
	same.Cluster, same.Since = "b", at(3)
	got := Merge([]Export{other, same, oldest})
	if got.Oldest != "z" || !got.Headless || !reflect.DeepEqual(got.Spec, oldest.Spec) || got.Labels["a"] != "1" || got.Annotations["b"] != "2" {
		t.Errorf("merged %+v", got)
	}
	var reasons []string
	for _, c := range got.Conflicts {
		reasons = append(reasons, c.Reason)
		if !strings.Contains(c.Message, "cluster z") || !strings.Contains(c.Message, "1 of 3 clusters") {
			t.Errorf("message %q", c.Message)
		}
	}
	want := []string{PortConflict, TypeConflict, SessionAffinityConflict, SessionAffinityConfigConflict, InternalTrafficPolicyConflict, TrafficDistributionConflict, IPFamilyConflict, LabelsConflict, AnnotationsConflict}
	if !slices.Equal(reasons, want) {
		t.Errorf("reasons %v", reasons)
	}
	if alone := Merge([]Export{oldest}); len(alone.Conflicts) > 0 {
		t.Errorf("one export disagrees with itself: %v", alone.Conflicts)
	}
	if none := Merge(nil); len(none.Ports) > 0 || none.Oldest != "" {
		t.Errorf("nothing merged to %+v", none)
	}
}

// A cluster serves the import's port of its own number, whatever it is called, and
// none where an older export gave the name another number.
func TestResolve(t *testing.T) {
	oldest := Export{Cluster: "a", Since: at(1), Ports: []Port{{Name: "http", Transport: TCP, Number: 80}, {Name: "dns", Transport: "UDP", Number: 53}}}
	ports := Merge([]Export{oldest}).Ports
	for p, want := range map[Port]string{
		{Name: "http", Transport: TCP, Number: 80}: "http",
		{Name: "web", Transport: TCP, Number: 80}:  "http",
		{Name: "http", Transport: TCP, Number: 81}: "",
		{Name: "dns", Transport: TCP, Number: 53}:  "",
	} {
		if got, ok := Resolve(ports, p); got.Name != want || ok != (want != "") {
			t.Errorf("%s leads to %q, want %q", p, got.Name, want)
		}
	}
}

// Any order of arrival gives the same import, names and transport-number pairs
// are unique in it, and a port of an export that leads to none of its ports has a
// name that another number won.
func TestMergeAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		exports := randomExports(r)
		want := Merge(exports)
		r.Shuffle(len(exports), func(i, j int) { exports[i], exports[j] = exports[j], exports[i] })
		for _, e := range exports {
			r.Shuffle(len(e.Ports), func(i, j int) { e.Ports[i], e.Ports[j] = e.Ports[j], e.Ports[i] })
		}
		got := Merge(exports)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %+v, then %+v", seed, want, got)
		}
		checkUnique(t, got)
		for _, e := range exports {
			for _, p := range e.Ports {
				won := slices.ContainsFunc(got.Ports, func(o Port) bool { return o.Name == p.Name && !sameNumber(o, p) })
				if _, ok := Resolve(got.Ports, p); !ok && !won {
					t.Fatalf("seed %d: port %s of %s leads nowhere", seed, p, e.Cluster)
				}
			}
		}
	}
}

func checkUnique(t *testing.T, i Import) {
	t.Helper()
	names, numbers := map[string]bool{}, map[Port]bool{}
	for _, p := range i.Ports {
		pair := Port{Transport: p.Transport, Number: p.Number}
		if names[p.Name] || numbers[pair] {
			t.Fatalf("port %s twice in %v", p, i.Ports)
		}
		names[p.Name], numbers[pair] = true, true
	}
}

// randomExports makes exports such as API servers allow: within one, names are
// unique, and so are pairs of transport and number.
func randomExports(r *rand.Rand) []Export {
	var out []Export
	for _, cluster := range []federation.ClusterName{"a", "b", "c", "d"}[:1+r.IntN(4)] {
		e := Export{Cluster: cluster, Since: at(int64(r.IntN(3))), Headless: r.IntN(2) == 0}
		names, numbers := map[string]bool{}, map[Port]bool{}
		for range r.IntN(5) {
			p := Port{Name: []string{"", "x", "y", "z"}[r.IntN(4)], Transport: []string{TCP, "UDP"}[r.IntN(2)], Number: uint16(1 + r.IntN(4))}
			pair := Port{Transport: p.Transport, Number: p.Number}
			if !names[p.Name] && !numbers[pair] {
				e.Ports = append(e.Ports, p)
				names[p.Name], numbers[pair] = true, true
			}
		}
		out = append(out, e)
	}
	return out
}
