package watch

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// statusOf is a link whose API server last answered at since.
func statusOf(state v1alpha1.LinkState, reachable metav1.ConditionStatus, since time.Time) *v1alpha1.ClusterLink {
	return &v1alpha1.ClusterLink{
		ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: "west"},
		Spec:       v1alpha1.ClusterLinkSpec{Cluster: "west", Priority: 2},
		Status: v1alpha1.ClusterLinkStatus{
			State: state, Network: "net-west", LastReachable: new(metav1.NewTime(since)),
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReachable, Status: reachable, LastTransitionTime: metav1.NewTime(since)}},
			Gateways:   []v1alpha1.GatewayStatus{{Address: "192.0.2.1:15443", Answers: true}, {Address: "192.0.2.2:15443", Since: new(metav1.NewTime(since))}},
		},
	}
}

// All replicas take the link's word; where it says nothing yet, each its own.
func TestStateOfALink(t *testing.T) {
	own := registry.Status{Cluster: "west", Reachable: true, LastReachable: noon}
	s := state(own, slimLink(statusOf(v1alpha1.LinkStale, metav1.ConditionFalse, noon.Add(-time.Minute))), true, noon)
	if s.Reachable || !s.Since.Equal(noon.Add(-time.Minute)) || s.Network != "net-west" || s.Priority != 2 || !s.Read {
		t.Errorf("by the link: %+v", s)
	}
	if _, silent := s.Silent["192.0.2.2:15443"]; !silent || len(s.Silent) != 1 {
		t.Errorf("silent %v", s.Silent)
	}
	if s := state(own, slimLink(statusOf("", metav1.ConditionUnknown, noon)), false, noon); !s.Reachable || !s.Since.IsZero() {
		t.Errorf("unknown: %+v", s)
	}
	if s := state(registry.Status{Cluster: "west"}, nil, false, noon); s.Reachable || !s.Since.Equal(noon) {
		t.Errorf("never answered: %+v", s)
	}
}

// A lost cluster is given up when its lease is over, but never all of several.
func TestLost(t *testing.T) {
	old, young := noon.Add(-11*time.Minute), noon.Add(-9*time.Minute)
	mk := func(state v1alpha1.LinkState, since time.Time) *link {
		return slimLink(statusOf(state, metav1.ConditionFalse, since))
	}
	for name, c := range map[string]struct {
		links map[federation.ClusterName]*link
		want  []federation.ClusterName
	}{
		"over":            {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, old), "b": mk(v1alpha1.LinkConnected, noon)}, []federation.ClusterName{"a"}},
		"not over":        {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, young), "b": nil}, nil},
		"gateway answers": {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkStale, old), "b": nil}, nil},
		"the only one":    {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, old)}, []federation.ClusterName{"a"}},
		"all of several":  {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, old), "b": mk(v1alpha1.LinkLost, old)}, nil},
		// b is spared as the last one; a had been given up long before b went away.
		"the last one of several":        {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, noon.Add(-time.Hour)), "b": mk(v1alpha1.LinkLost, old)}, []federation.ClusterName{"a"}},
		"the last two at once":           {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, noon.Add(-time.Hour)), "b": mk(v1alpha1.LinkLost, old), "c": mk(v1alpha1.LinkLost, old.Add(5*time.Second))}, []federation.ClusterName{"a"}},
		"all of several, one lease over": {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, old), "b": mk(v1alpha1.LinkLost, young)}, nil},
		"two out of three":               {map[federation.ClusterName]*link{"a": mk(v1alpha1.LinkLost, old), "b": mk(v1alpha1.LinkLost, old), "c": nil}, []federation.ClusterName{"a", "b"}},
	} {
		var remotes []federation.ClusterName
		for n := range c.links {
			remotes = append(remotes, n)
		}
		got := lost(c.links, remotes, noon)
		if len(got) != len(c.want) {
			t.Errorf("%s: lost %v, want %v", name, got, c.want)
		}
		for _, n := range c.want {
			if !got[n] {
				t.Errorf("%s: %s is not lost", name, n)
			}
		}
	}
}

func TestLinkByCluster(t *testing.T) {
	at := func(name, cluster string, priority int) (ingest.Name, *link) {
		n := ingest.Name{Namespace: "isthmus-system", Name: name}
		return n, &link{Name: n, cluster: federation.ClusterName(cluster), priority: priority}
	}
	all := map[ingest.Name]*link{}
	for _, c := range []struct {
		name, cluster string
		priority      int
	}{{"a", "west", 1}, {"west", "west", 2}, {"z", "west", 3}, {"n2", "north", 5}, {"n1", "north", 4}} {
		n, l := at(c.name, c.cluster, c.priority)
		all[n] = l
	}
	got := byCluster(all)
	if got["west"].priority != 2 || got["north"].priority != 4 {
		t.Errorf("west %d, north %d", got["west"].priority, got["north"].priority)
	}
}

// What a drill asks of a link goes to the registry; renewed, it is another.
func TestFaultOfALink(t *testing.T) {
	o := statusOf(v1alpha1.LinkConnected, metav1.ConditionTrue, noon)
	if got := faults(map[federation.ClusterName]*link{"west": slimLink(o)}); len(got) != 0 {
		t.Errorf("without a drill: %v", got)
	}
	o.Spec.Fault = &v1alpha1.LinkFault{APIServer: "drop", Seconds: 15, Renewed: metav1.NewMicroTime(noon)}
	first := faults(map[federation.ClusterName]*link{"west": slimLink(o)})["west"]
	if first.Mode != "drop" || first.Life != 15*time.Second {
		t.Errorf("%+v", first)
	}
	if again := slimLink(o).fault; again != first {
		t.Errorf("the same again is another: %+v, %+v", first, again)
	}
	o.Spec.Fault.Renewed = metav1.NewMicroTime(noon.Add(time.Microsecond))
	if renewed := slimLink(o).fault; renewed == first {
		t.Errorf("renewed, it is the same: %+v", renewed)
	}
}
