package watch

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// kindLink is a kind that Build does not know; the loop makes cluster states of it.
const kindLink ingest.Kind = 100

// defaultLease is how long a lost cluster's endpoints are kept.
const defaultLease = 10 * time.Minute

// link is a slimmed ClusterLink.
type link struct {
	ingest.Name
	cluster  federation.ClusterName
	gateways []string
	lease    time.Duration
	priority int
	fault    registry.Fault // of a drill

	network   federation.NetworkName
	judged    bool // the elected control plane has said whether it is reachable
	reachable bool
	since     time.Time // when it last answered
	lost      bool      // the link is in state Lost; its lease may not be over yet
	silent    map[string]time.Time
	drain     *federation.Drain // of its own, as the elected control plane last knew it
	keepAway  *federation.Drain // as asked for on the link
}

func (l *link) Kind() ingest.Kind { return kindLink }
func (l *link) ID() ingest.Name   { return l.Name }

func slimLink(o *v1alpha1.ClusterLink) *link {
	l := &link{
		Name: ingest.Name{Namespace: o.Namespace, Name: o.Name}, cluster: federation.ClusterName(o.Spec.Cluster),
		gateways: slices.Clone(o.Spec.Gateways), lease: defaultLease, priority: int(o.Spec.Priority),
		network: federation.NetworkName(o.Status.Network), lost: o.Status.State == v1alpha1.LinkLost,
	}
	if o.Spec.Lease != nil {
		l.lease = o.Spec.Lease.Duration
	}
	if f := o.Spec.Fault; f != nil {
		l.fault = registry.Fault{Mode: f.APIServer, Life: time.Duration(f.Seconds) * time.Second, Renewed: f.Renewed.UnixMicro()}
	}
	c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReachable)
	if c != nil && c.Status != metav1.ConditionUnknown {
		l.judged, l.reachable, l.since = true, c.Status == metav1.ConditionTrue, c.LastTransitionTime.UTC()
		if o.Status.LastReachable != nil {
			l.since = o.Status.LastReachable.UTC()
		}
	}
	// What cannot be read says nothing; the condition tells of it.
	l.drain, _ = federation.ParseDrain(o.Status.Drain)
	l.keepAway, _ = federation.ParseDrain(o.Annotations[api.AnnotationDrain])
	for _, g := range o.Status.Gateways {
		if g.Answers {
			continue
		}
		if l.silent == nil {
			l.silent = map[string]time.Time{}
		}
		l.silent[g.Address] = time.Time{}
		if g.Since != nil {
			l.silent[g.Address] = g.Since.UTC()
		}
	}
	return l
}

// state joins what this replica sees of a cluster with what the link says,
// which all replicas take from there.
func state(status registry.Status, l *link, read bool, start time.Time) ingest.ClusterState {
	s := ingest.ClusterState{Name: federation.ClusterName(status.Cluster), Read: read, Reachable: status.Reachable, Since: status.LastReachable.UTC()}
	if l != nil {
		s.Network, s.Priority, s.Gateways, s.Silent = l.network, l.priority, l.gateways, l.silent
		s.Drain, s.KeepAway = l.drain, l.keepAway
		if l.judged {
			s.Reachable, s.Since = l.reachable, l.since
		}
	}
	switch {
	case s.Reachable:
		s.Since = time.Time{}
	case s.Since.IsZero():
		s.Since = start
	}
	return s
}

// lost picks the clusters that are given up: unreachable and silent for longer
// than their lease. Where that has come to be so of all of several clusters, the
// fault may well be here: those whose lease was not over when the last one fell
// silent are kept. Those that had been given up before stay so.
func lost(links map[federation.ClusterName]*link, remotes []federation.ClusterName, now time.Time) map[federation.ClusterName]bool {
	out := map[federation.ClusterName]bool{}
	gone, last := 0, time.Time{}
	for _, name := range remotes {
		l := links[name]
		if l == nil || !l.lost || l.reachable {
			continue
		}
		gone++
		if l.since.After(last) {
			last = l.since
		}
		if now.Sub(l.since) >= l.lease {
			out[name] = true
		}
	}
	if gone > 1 && gone == len(remotes) {
		maps.DeleteFunc(out, func(name federation.ClusterName, _ bool) bool { return last.Sub(links[name].since) < links[name].lease })
	}
	return out
}

// byCluster keeps one link for each cluster: the one that bears its name, else
// the first by name.
func byCluster(all map[ingest.Name]*link) map[federation.ClusterName]*link {
	out := map[federation.ClusterName]*link{}
	for _, name := range slices.SortedFunc(maps.Keys(all), ingest.Name.Compare) {
		l := all[name]
		if old := out[l.cluster]; old == nil || name.Name == string(l.cluster) {
			out[l.cluster] = l
		}
	}
	return out
}

// faults returns what drills ask of the links, by cluster.
func faults(links map[federation.ClusterName]*link) map[string]registry.Fault {
	out := map[string]registry.Fault{}
	for name, l := range links {
		if l.fault != (registry.Fault{}) {
			out[string(name)] = l.fault
		}
	}
	return out
}
