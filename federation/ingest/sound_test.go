package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// remote is what a hostile API server says of one export.
type remote struct {
	service corev1.Service
	export  mcsv1beta1.ServiceExport
	slice   discoveryv1.EndpointSlice
}

// goodRemote is one that nothing is wrong with; of its two pods none has a sidecar.
func goodRemote() remote {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "web", CreationTimestamp: metav1.Unix(1.7e9, 0), Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
	return remote{
		service: corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		}},
		export: mcsv1beta1.ServiceExport{ObjectMeta: meta},
		slice: discoveryv1.EndpointSlice{
			ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.7.0.1"}}, {Addresses: []string{"10.7.0.2"}}},
		},
	}
}

// build returns the mesh of east, a cluster with a good old export, and that
// remote, west, on a network of its own.
func (r remote) build(t testing.TB, more ...Object) *federation.Snapshot {
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	for _, c := range []federation.ClusterName{"east", "north", "west"} {
		in.SetCluster(ClusterState{Name: c, Local: c == "east", Served: c == "east", Read: true, Reachable: true, Network: federation.NetworkName(c)}, &ch)
	}
	in.Set("north", &Node{Node: "n", CIDRs: prefixes("10.9.0.0/16")}, &ch)
	in.Set("west", SlimService(&r.service), &ch)
	in.Set("west", SlimExport(&r.export), &ch)
	if s := SlimSlice(&r.slice); s != nil {
		in.Set("west", s, &ch)
	}
	for _, o := range more {
		in.Set("west", o, &ch)
	}
	return Build(nil, in, ch)
}

// Each way to be wrong has a reason of its own and a message that tells what,
// and takes no more with it than it has to.
func TestWhatNoAPIServerTakes(t *testing.T) {
	port := func(r *remote) *corev1.ServicePort { return &r.service.Spec.Ports[0] }
	for name, c := range map[string]struct {
		spoil        func(*remote)
		reason, says string
		refused      bool
	}{
		"name of a port": {func(r *remote) { port(r).Name = "A b" }, invalidPort, `port "A b": the name is no DNS label`, false},
		"long name":      {func(r *remote) { port(r).Name = strings.Repeat("a", 64) }, invalidPort, "no DNS label", false},
		"number":         {func(r *remote) { port(r).Port = 65536 + 80 }, invalidPort, "1 to 65535", false},
		"transport":      {func(r *remote) { port(r).Protocol = "ICMP" }, invalidPort, "TCP, UDP or SCTP", false},
		"one name twice": {func(r *remote) {
			r.service.Spec.Ports = append(r.service.Spec.Ports, corev1.ServicePort{Name: "http", Port: 81})
		}, invalidPort, "another port's", false},
		"appProtocol":        {func(r *remote) { port(r).AppProtocol = new("a\nb") }, invalidPort, "appProtocol", false},
		"too many ports":     {func(r *remote) { r.service.Spec.Ports = manyPorts(257) }, tooManyPorts, "257 ports", true},
		"affinity":           {func(r *remote) { r.service.Spec.SessionAffinity = "Sticky" }, invalidSpec, `sessionAffinity "Sticky"`, false},
		"affinity's seconds": {func(r *remote) { r.affinity(86401) }, invalidSpec, "86401 seconds", false},
		"negative seconds":   {func(r *remote) { r.affinity(-1) }, invalidSpec, "-1 seconds", false},
		"internal policy":    {func(r *remote) { r.service.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicy("x")) }, invalidSpec, `internalTrafficPolicy "x"`, false},
		"distribution":       {func(r *remote) { r.service.Spec.TrafficDistribution = new("Far") }, invalidSpec, `trafficDistribution "Far"`, false},
		"family":             {func(r *remote) { r.service.Spec.IPFamilies = []corev1.IPFamily{"IPv5"} }, invalidSpec, `ipFamily "IPv5"`, false},
		"hostname":           {func(r *remote) { r.slice.Endpoints[0].Hostname = new("A.b") }, invalidEndpoint, `hostname "A.b"`, false},
		"zone":               {func(r *remote) { r.slice.Endpoints[0].Zone = new(strings.Repeat("z", 64)) }, invalidEndpoint, "zone", false},
		"pod":                {func(r *remote) { r.slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "A/b"} }, "EndpointRefused", "a name that none has", false},
		"special address":    {func(r *remote) { r.slice.Endpoints[0].Addresses[0] = "169.254.169.254" }, "EndpointRefused", "link-local", false},
		"no address":         {func(r *remote) { r.slice.Endpoints[0].Addresses[0] = "a.example" }, "EndpointRefused", "no IP address", false},
		"no creation time":   {func(r *remote) { r.export.CreationTimestamp = metav1.Time{} }, invalidCreation, "cannot be true", false},
		"an early one":       {func(r *remote) { r.export.CreationTimestamp = metav1.Unix(1, 0) }, invalidCreation, "cannot be true", false},
		"label":              {func(r *remote) { r.export.Spec.ExportedLabels = map[string]string{"a": "b c"} }, "InvalidMetadata", `"a"`, false},
		"reserved label":     {func(r *remote) { r.export.Spec.ExportedLabels = map[string]string{"isthmus.dev/a": "b"} }, "InvalidMetadata", "reserved", false},
		"UDP":                {func(r *remote) { port(r).Protocol = "UDP" }, "PortNotCarried", "80/UDP", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := goodRemote()
			c.spoil(&r)
			s := r.build(t)
			found := 0
			for _, p := range s.Problems() {
				if p.Reason == c.reason && p.Object.Kind == kindExport && p.Object.Cluster == "west" && strings.Contains(p.Message, c.says) {
					found++
				}
			}
			if svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "web"}); found != 1 || (svc == nil) != c.refused {
				t.Errorf("service %+v, problems %v", svc, s.Problems())
			}
			checkSound(t, s)
		})
	}
}

// Ranges of another cluster of the same network are told apart from the special.
func TestClaimedAddressIsTold(t *testing.T) {
	r := goodRemote()
	r.slice.Endpoints[0].Addresses[0] = "10.9.0.7"
	said := func(s *federation.Snapshot) bool {
		return slices.ContainsFunc(s.Problems(), func(p federation.Problem) bool {
			return p.Reason == addressClaimed && strings.Contains(p.Message, "belongs to cluster north")
		})
	}
	shared := SlimNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "isthmus-system", Annotations: map[string]string{"isthmus.dev/network": "north"}}})
	if said(r.build(t)) || !said(r.build(t, shared)) {
		t.Errorf("problems %v, then %v", r.build(t).Problems(), r.build(t, shared).Problems())
	}
}

// A missing creation time makes no export the oldest.
func TestYoungest(t *testing.T) {
	good := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := creation(good); got != good {
		t.Errorf("%v became %v", good, got)
	}
	for _, bad := range []time.Time{{}, time.Unix(0, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := creation(bad); !got.After(good) || got.Year() > 9999 {
			t.Errorf("%v became %v", bad, got)
		}
	}
}

func (r *remote) affinity(seconds int32) {
	r.service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	r.service.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
}

func manyPorts(n int) []corev1.ServicePort {
	var out []corev1.ServicePort
	for i := range n {
		out = append(out, corev1.ServicePort{Name: fmt.Sprint("p", i), Port: int32(i + 1)})
	}
	return out
}

// FuzzSound: whatever a remote's objects say, what imports, derived Services and
// slices are made of is what an API server takes.
func FuzzSound(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, "x\x00", int32(-1))
	}
	f.Fuzz(func(t *testing.T, seed uint64, text string, number int32) {
		checkSound(t, randomRemote(rand.New(rand.NewPCG(seed, 5)), text, number).build(t))
	})
}

func randomRemote(r *rand.Rand, odd string, number int32) remote {
	text := func() string {
		return pick(r, odd, odd, "", "a", "http", "IPv4", "ClientIP", "Local", "TCP", "UDP", "PreferClose", "A_b", "a.b", strings.Repeat("z", 70))
	}
	num := func() int32 { return pick(r, number, 0, 1, 80, 86400, 86401, 65536, int32(r.Uint32())) }
	out := goodRemote()
	s := &out.service.Spec
	for range r.IntN(4) {
		s.Ports = append(s.Ports, corev1.ServicePort{Name: text(), Port: num(), Protocol: corev1.Protocol(text()), AppProtocol: new(text())})
		out.slice.Ports = append(out.slice.Ports, discoveryv1.EndpointPort{Name: new(text()), Port: new(num()), Protocol: new(corev1.Protocol(text()))})
		s.IPFamilies = append(s.IPFamilies, corev1.IPFamily(text()))
		out.slice.Endpoints = append(out.slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pick(r, odd, "10.7.0.9", "::ffff:127.0.0.1", "224.0.0.1")}, Hostname: new(text()), Zone: new(text()), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: text()},
		})
	}
	out.affinity(num())
	s.SessionAffinity, s.TrafficDistribution, s.InternalTrafficPolicy = corev1.ServiceAffinity(text()), new(text()), new(corev1.ServiceInternalTrafficPolicy(text()))
	out.export.CreationTimestamp = metav1.Unix(int64(num())*int64(num()), 0)
	out.export.Spec.ExportedLabels, out.export.Spec.ExportedAnnotations = map[string]string{text(): text()}, map[string]string{text(): text()}
	return out
}

func checkSound(t testing.TB, s *federation.Snapshot) {
	t.Helper()
	none := func(what string, why []string) {
		if len(why) > 0 {
			t.Errorf("%s: %v", what, why)
		}
	}
	oneOf := func(what, value string, values ...string) {
		if value != "" && !slices.Contains(values, value) {
			t.Errorf("%s is %q", what, value)
		}
	}
	for svc := range s.Services() {
		for _, e := range svc.Exports {
			if e.Since.Year() < 2014 || e.Since.Year() > 9999 {
				t.Errorf("since %v", e.Since)
			}
		}
		for _, e := range svc.Endpoints {
			if e.Hostname != "" {
				none("hostname", validation.IsDNS1123Label(e.Hostname))
			}
			if e.Pod != "" {
				none("pod", validation.IsDNS1123Subdomain(e.Pod))
			}
			none("zone", validation.IsValidLabelValue(e.Locality.Zone))
			if special(e.Addr) != "" {
				t.Errorf("address %s", e.Addr)
			}
		}
		d := svc.Declared
		if d == nil {
			continue
		}
		names := map[string]bool{}
		for _, p := range d.Ports {
			none("number", validation.IsValidPortNum(int(p.Number)))
			oneOf("transport", p.Transport, "TCP", "UDP", "SCTP")
			if p.Name != "" {
				none("name", validation.IsDNS1123Label(p.Name))
			}
			if p.AppProtocol != "" {
				none("appProtocol", validation.IsQualifiedName(p.AppProtocol))
			}
			if names[p.Name] || p.Transport == "" {
				t.Errorf("port %+v", p)
			}
			names[p.Name] = true
		}
		if d.AffinitySeconds != 0 {
			none("affinity", validation.IsInRange(int(d.AffinitySeconds), 1, 86400))
		}
		oneOf("affinity", d.SessionAffinity, "None", "ClientIP")
		oneOf("policy", d.InternalTrafficPolicy, "Cluster", "Local")
		oneOf("distribution", d.TrafficDistribution, "PreferClose", "PreferSameZone", "PreferSameNode")
		for _, f := range d.Families {
			oneOf("family", f, "IPv4", "IPv6")
		}
		for k, v := range d.Labels {
			none("label", slices.Concat(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)))
		}
		for k := range d.Annotations {
			none("annotation", validation.IsQualifiedName(k))
		}
	}
}
