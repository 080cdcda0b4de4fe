package scale_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
	"github.com/isthmus-mesh/isthmus/internal/fleet"
	"github.com/isthmus-mesh/isthmus/primary/cache"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/trust"
)

// pipeline is the pure middle of isthmusd, fed with a fleet's objects.
type pipeline struct {
	fleet *fleet.Fleet
	in    *ingest.Inputs
	snap  *federation.Snapshot
}

func newPipeline(b *testing.B, shape fleet.Shape) *pipeline {
	b.Helper()
	f, err := fleet.New()
	must(b, err)
	b.Cleanup(f.Close)
	for i := range shape.Clusters {
		shape.Gateways = append(shape.Gateways, fmt.Sprintf("192.0.2.%d:15443", i+1))
	}
	must(b, f.Generate(shape))
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	must(b, err)
	p := &pipeline{fleet: f, in: ingest.NewInputs(domain, api.SystemNamespace)}
	var ch ingest.Changes
	p.in.SetCluster(ingest.ClusterState{Name: localCluster, Local: true, Served: true, Read: true, Reachable: true, Network: federation.NetworkName(shape.Networks[0])}, &ch)
	for i, c := range f.Clusters() {
		name := federation.ClusterName(c.Name)
		p.in.SetCluster(ingest.ClusterState{Name: name, Read: true, Reachable: true, Network: federation.NetworkName(shape.Network(i))}, &ch)
		for _, o := range slimmed(c) {
			p.in.Set(name, o, &ch)
		}
	}
	p.in.Set(localCluster, &ingest.Pod{Name: ingest.Name{Namespace: callers, Name: "caller-0"}, Account: "caller", Injected: true, Addrs: []netip.Addr{netip.MustParseAddr("10.99.0.1")}}, &ch)
	made := map[ingest.Name]bool{}
	for _, e := range shape.Exports() {
		id := ingest.Name{Namespace: e.Namespace, Name: e.Name}
		if !made[id] {
			p.in.Set(localCluster, &ingest.Import{Name: id, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(len(made) / 250), byte(len(made)%250 + 1)})}}, &ch)
			made[id] = true
		}
	}
	p.snap = ingest.Build(nil, p.in, ch)
	return p
}

func slimmed(c *fleet.Cluster) (out []ingest.Object) {
	for _, o := range c.All("Namespace") {
		out = append(out, ingest.SlimNamespace(o.(*corev1.Namespace)))
	}
	for _, o := range c.All("Node") {
		out = append(out, ingest.SlimNode(o.(*corev1.Node)))
	}
	for _, o := range c.All("Service") {
		out = append(out, ingest.SlimService(o.(*corev1.Service)))
	}
	for _, o := range c.All("Pod") {
		out = append(out, ingest.SlimPod(o.(*corev1.Pod)))
	}
	for _, o := range c.All("EndpointSlice") {
		out = append(out, ingest.SlimSlice(o.(*discoveryv1.EndpointSlice)))
	}
	for _, o := range c.All("ServiceExport") {
		out = append(out, ingest.SlimExport(o.(*mcsv1beta1.ServiceExport)))
	}
	return out
}

// BenchmarkOneChange times, stage by stage, what one endpoint that comes or goes
// costs isthmusd. What grows from 500 services to 5,000 grows with what exists.
func BenchmarkOneChange(b *testing.B) {
	for _, shape := range []fleet.Shape{
		{Clusters: 50, Services: 500, Networks: []string{"net-a", "net-b", "net-c"}, Namespaces: 50},
		fleet.Large(),
	} {
		name := fmt.Sprintf("services=%d/", shape.Services)
		p := newPipeline(b, shape)
		both := p.forms(b, shape.Exports()[0])
		b.Run(name+"ingest", func(b *testing.B) {
			measure(b, func(n int) { p.set(both[n%2]) })
		})
		benchUpdate(b, name, []*federation.Snapshot{p.set(both[0]), p.set(both[1])})
	}
}

// measure also reports the processor time of this program, which says more than
// the clock on a busy machine.
func measure(b *testing.B, f func(n int)) {
	b.Helper()
	before, n := processor(), 0
	for b.Loop() {
		f(n)
		n++
	}
	b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(n), "cpu-ns/op")
}

func processor() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // only a bad pointer makes it fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// form is one state of a slice.
type form struct {
	cluster federation.ClusterName
	slice   *ingest.Slice
}

// forms are the slice of e with its last pod ready and not.
func (p *pipeline) forms(b *testing.B, e fleet.Export) (out []form) {
	b.Helper()
	c := p.fleet.Clusters()[e.Cluster]
	for _, ready := range []bool{true, false} {
		must(b, p.fleet.SetReady(e, e.Pods-1, ready))
		out = append(out, form{federation.ClusterName(c.Name), ingest.SlimSlice(sliceOf(c, e))})
	}
	return out
}

// set takes a slice in and returns the snapshot after it.
func (p *pipeline) set(f form) *federation.Snapshot {
	var ch ingest.Changes
	p.in.Set(f.cluster, f.slice, &ch)
	p.snap = ingest.Build(p.snap, p.in, ch)
	return p.snap
}

func sliceOf(c *fleet.Cluster, e fleet.Export) *discoveryv1.EndpointSlice {
	for _, o := range c.All("EndpointSlice") {
		if s := o.(*discoveryv1.EndpointSlice); s.Namespace == e.Namespace && s.Labels[discoveryv1.LabelServiceName] == e.Name {
			return s
		}
	}
	return nil
}

// benchUpdate hands two snapshots in turn to what follows.
func benchUpdate(b *testing.B, name string, two []*federation.Snapshot) {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	local := &controllers.Local{}
	members := cache.New(quiet)
	members.Update(two[0])
	network := two[0].Cluster(localCluster).Network
	for _, kind := range []cache.Kind{cache.Sidecar, cache.EastWest} {
		m := members.Join(cache.Proxy{Group: cache.Group{Kind: kind, Cluster: localCluster, Network: network, MTLS: true}})
		b.Cleanup(m.Close)
	}
	for _, stage := range []struct {
		name   string
		update func(*federation.Snapshot)
	}{
		{"cache", members.Update},
		{"imports", controllers.NewImports(local, controllers.ImportOptions{Cluster: localCluster, Log: quiet}).Update},
		{"exports", controllers.NewExports(local, localCluster, quiet).Update},
		{"problems", controllers.NewProblems(local, localCluster, quiet).Update},
	} {
		b.Run(name+stage.name, func(b *testing.B) {
			stage.update(two[0])
			measure(b, func(n int) { stage.update(two[n%2]) })
		})
	}
}
