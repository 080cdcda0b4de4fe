package ingest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/federation"
)

var update = flag.Bool("update", false, "write what the stages print")

// Each file of testdata is a case: objects of each cluster, and the model they
// come to, a line for each fact. Objects are given in three orders.
func TestStages(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			for seed := range uint64(3) {
				runStage(t, file, rand.New(rand.NewPCG(seed, 3)))
			}
		})
	}
}

func runStage(t *testing.T, file string, order *rand.Rand) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := NewInputs(testDomain(t), "isthmus-system")
	var ch Changes
	for _, f := range archive.Files {
		if f.Name == "clusters.yaml" {
			var states []ClusterState
			if err := yaml.UnmarshalStrict(f.Data, &states); err != nil {
				t.Fatal(err)
			}
			for _, s := range states {
				in.SetCluster(s, &ch)
			}
		}
	}
	for _, f := range archive.Files {
		if cluster, ok := strings.CutSuffix(f.Name, ".yaml"); ok && cluster != "clusters" {
			objects := parseObjects(t, string(f.Data))
			order.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
			for _, o := range objects {
				in.Set(federation.ClusterName(cluster), o, &ch)
			}
		}
	}
	s := Build(nil, in, ch)
	got := map[string]string{"want/clusters": clustersText(s), "want/services": servicesText(s), "want/workloads": workloadsText(s), "want/problems": problemsText(s)}
	var out []txtar.File
	for _, f := range archive.Files {
		text, isWant := got[f.Name]
		if isWant && !*update && text != string(f.Data) {
			t.Errorf("%s: got\n%s\nwant\n%s", f.Name, text, f.Data)
		}
		if isWant {
			f.Data = []byte(text)
		}
		out = append(out, f)
	}
	if *update {
		archive.Files = out
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseObjects(t *testing.T, text string) []Object {
	t.Helper()
	var out []Object
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if o := parseObject(t, head.Kind, []byte(doc)); o != nil {
			out = append(out, o)
		}
	}
	return out
}

func parseObject(t *testing.T, kind string, doc []byte) Object {
	t.Helper()
	switch kind {
	case "Service":
		return SlimService(as[corev1.Service](t, doc))
	case "EndpointSlice":
		if s := SlimSlice(as[discoveryv1.EndpointSlice](t, doc)); s != nil {
			return s
		}
		return nil
	case "Pod":
		return SlimPod(as[corev1.Pod](t, doc))
	case "Node":
		return SlimNode(as[corev1.Node](t, doc))
	case "Namespace":
		return SlimNamespace(as[corev1.Namespace](t, doc))
	case "ServiceExport":
		return SlimExport(as[mcsv1beta1.ServiceExport](t, doc))
	case "ServiceImport":
		return SlimImport(as[mcsv1beta1.ServiceImport](t, doc))
	case "PeerAuthentication":
		return SlimPolicy(as[securityv1.PeerAuthentication](t, doc))
	}
	t.Fatalf("unknown kind %q", kind)
	return nil
}

func as[T any](t *testing.T, doc []byte) *T {
	t.Helper()
	var out T
	if err := yaml.Unmarshal(doc, &out); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	return &out
}

func clustersText(s *federation.Snapshot) string {
	var b strings.Builder
	for _, c := range s.Clusters() {
		fmt.Fprintf(&b, "%s network=%s locality=%s/%s read=%v reachable=%v lost=%v\n", c.Name, c.Network, c.Locality.Region, c.Locality.Zone, c.Read, c.Reachable, c.Lost)
		if c.Drain != nil {
			fmt.Fprintf(&b, "  drain %s keptAway=%v\n", c.Drain, c.KeptAway)
		}
		for _, g := range c.Gateways {
			fmt.Fprintf(&b, "  gateway %s silent=%v\n", g.Addr, g.Silent)
		}
		for _, a := range c.Entries {
			fmt.Fprintf(&b, "  entry %s\n", a)
		}
		for _, p := range c.Inside {
			fmt.Fprintf(&b, "  inside %s\n", p)
		}
		for _, a := range c.ShutOut {
			fmt.Fprintf(&b, "  shut out %s\n", a)
		}
	}
	return b.String()
}

func servicesText(s *federation.Snapshot) string {
	var b strings.Builder
	for svc := range s.Services() {
		fmt.Fprintf(&b, "%s of=%s headless=%v sameZone=%v", svc.Key.Hostname(), svc.Key.Cluster, svc.Headless, svc.SameZone)
		if svc.Failover {
			b.WriteString(" failover")
		}
		if !svc.VisibleTo("east") {
			b.WriteString(" invisible")
		}
		b.WriteString("\n")
		for _, v := range svc.VIPs {
			fmt.Fprintf(&b, "  vip %s %s\n", v.Cluster, v.Addr)
		}
		for _, p := range svc.Ports {
			fmt.Fprintf(&b, "  port %s\n", portText(p))
		}
		for _, e := range svc.Endpoints {
			fmt.Fprintf(&b, "  endpoint %s\n", endpointText(e))
		}
		for _, c := range svc.Counts {
			fmt.Fprintf(&b, "  count %s network=%s %s/%s port=%d ready=%d\n", c.Cluster, c.Network, c.Locality.Region, c.Locality.Zone, c.Port, c.Ready)
		}
		for _, a := range svc.Accounts {
			fmt.Fprintf(&b, "  account %s\n", a)
		}
		for _, e := range svc.Exports {
			fmt.Fprintf(&b, "  export %s since=%s stale=%v checkpoint=%v", e.Cluster, e.Since.Format("15:04:05"), !e.StaleSince.IsZero(), e.Checkpoint)
			for _, p := range e.Ports {
				fmt.Fprintf(&b, " %s", portText(p))
			}
			if own := numbersOf(e.Ports); !slices.Equal(own, e.Numbers) {
				fmt.Fprintf(&b, " as=%v", e.Numbers)
			}
			if e.To != nil {
				fmt.Fprintf(&b, " to=%s hidden=%v", e.To, e.Hidden)
			}
			if e.NoEntry {
				b.WriteString(" no entry")
			}
			b.WriteString("\n")
		}
		for _, p := range svc.EntryPorts {
			fmt.Fprintf(&b, "  entry port %s %d>%d\n", p.Cluster, p.Port, p.Service)
		}
		for _, a := range svc.Synthetic {
			fmt.Fprintf(&b, "  synthetic %s %s for %s of %s\n", a.In, a.Addr, a.Pod, a.Of)
		}
	}
	return b.String()
}

func numbersOf(ports []federation.Port) []uint16 {
	var out []uint16
	for _, p := range ports {
		out = append(out, p.Number)
	}
	return out
}

func portText(p federation.Port) string { return fmt.Sprintf("%s:%d/%s", p.Name, p.Number, p.Protocol) }

func endpointText(e federation.Endpoint) string {
	health := [...]string{"ready", "terminating", "notready"}[e.Health]
	tunnel := [...]string{"plaintext", "mtls"}[e.Tunnel]
	var ports []string
	for _, p := range e.Ports {
		ports = append(ports, fmt.Sprintf("%d>%d", p.Service, p.Target))
	}
	return fmt.Sprintf("%s %s pod=%s host=%s %s %s %s/%s ports=%s", e.Cluster, e.Addr, e.Pod, e.Hostname, health, tunnel, e.Locality.Region, e.Locality.Zone, strings.Join(ports, ","))
}

func workloadsText(s *federation.Snapshot) string {
	modes := [...]string{"permissive", "strict", "disable"}
	var lines []string
	for w := range s.Workloads() {
		line := fmt.Sprintf("%s/%s of=%s %s mtls=%s", w.Key.Namespace, w.Key.Name, w.Key.Cluster, w.Account, modes[w.MTLS])
		for _, p := range w.PortMTLS {
			line += fmt.Sprintf(" %d=%s", p.Port, modes[p.Mode])
		}
		for _, p := range w.Inbound {
			line += fmt.Sprintf(" inbound=%d/%s(%s)", p.Port, p.Protocol, p.Service.Name)
			if p.From != nil {
				line += fmt.Sprintf(" from=%s", p.From)
			}
			if p.NoEntry {
				line += " no entry"
			}
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func problemsText(s *federation.Snapshot) string {
	var b strings.Builder
	for _, p := range s.Problems() {
		fmt.Fprintf(&b, "%s %s %s/%s %s: %s\n", p.Object.Cluster, p.Object.Kind, p.Object.Namespace, p.Object.Name, p.Reason, p.Message)
	}
	return b.String()
}
