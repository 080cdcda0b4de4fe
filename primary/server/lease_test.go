package server_test

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/server"
)

// A cluster of which nothing is heard for as long as the installation's lease
// leaves slices and status.clusters by itself, while every import and its address
// stay; it comes back by itself. A lease that a user writes on the link counts
// instead. (mcs.md §5)
func TestLostClusterLeaves(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), testenv.Start(t), testenv.Start(t))
	east, west := w.clusters[0], w.clusters[1]
	root := newRoot(t)
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	short := func(o *server.Options) { o.Lease = 2 * time.Second }
	d := startIn(t, east.env, "east", "isthmusd-east", caFolder(t, root, "east"), bundle, short)
	startIn(t, west.env, "west", "isthmusd-west", caFolder(t, root, "west"), bundle, short)
	linkBothWays(t, east, west)
	both, theirs := client.ObjectKey{Namespace: "kill-0", Name: "web-0"}, client.ObjectKey{Namespace: "kill-1", Name: "web-0"}
	west.setPorts(west.all[both], []int32{9080})
	west.setExport(west.all[both], true)
	w.settle(nil)
	showsNumbers(t, d, east.holds()[theirs])
	link := func() (out v1alpha1.ClusterLink) {
		east.must("read link", east.Get(t.Context(), client.ObjectKey{Namespace: api.SystemNamespace, Name: "west"}, &out))
		return out
	}
	eventually(t, "the link has the installation's lease", func() bool { l := link().Spec.Lease; return l != nil && l.Duration == 2*time.Second })
	before := w.addresses()

	west.env.Kill()
	eventually(t, "west leaves", func() bool {
		return slices.Equal(from(east.holds()[both]), []string{"east"}) && len(from(east.holds()[theirs])) == 0
	})
	if got := link().Status.State; got != v1alpha1.LinkLost {
		t.Errorf("the link is %s", got)
	}
	for _, key := range []client.ObjectKey{both, theirs} {
		h, id := east.holds()[key], "east "+key.String()+" import"
		if now := string(h.imported.UID) + " " + strings.Join(h.imported.Spec.IPs, " "); now != before[id] || h.derived == nil {
			t.Errorf("%s was %s and is %s", id, before[id], now)
		}
	}
	west.env.Restart(t)
	w.settle(nil)
	for id, was := range before {
		if now := w.addresses()[id]; now != was {
			t.Errorf("%s was %s and is %s", id, was, now)
		}
	}

	east.must("write a lease", east.retry(&v1alpha1.ClusterLink{}, client.ObjectKey{Namespace: api.SystemNamespace, Name: "west"}, func(o client.Object) {
		o.(*v1alpha1.ClusterLink).Spec.Lease = &metav1.Duration{Duration: time.Hour}
	}))
	west.env.Kill()
	eventually(t, "the link is lost, or else stale", func() bool { s := link().Status.State; return s == v1alpha1.LinkLost })
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); pause(t, w.rng, 100*time.Millisecond) {
		if got := from(east.holds()[both]); !slices.Equal(got, []string{"east", "west"}) {
			t.Fatalf("before the user's lease is over the import is from %v", got)
		}
	}
	if got := link().Spec.Lease.Duration; got != time.Hour {
		t.Errorf("the user's lease became %v", got)
	}
}

// from names the clusters of which an import tells, by its status and by its
// slices; where the two differ, all.
func from(h *held) (out []string) {
	for _, c := range h.imported.Status.Clusters {
		out = append(out, c.Cluster)
	}
	for _, s := range h.slices {
		out = append(out, s.Labels[mcsv1beta1.LabelSourceCluster])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type shownCluster struct {
	Name    string
	Entries []netip.Addr
	Inside  []netip.Prefix
}

// showsNumbers checks that people see in the debug view and in the metrics what
// was allocated.
func showsNumbers(t *testing.T, d *isthmusd, h *held) {
	t.Helper()
	port, at, _ := strings.Cut(strings.Split(h.slices[0].Annotations[api.AnnotationEntryPorts], ",")[0], "=")
	var snapshot struct {
		Clusters []shownCluster
		Services []struct {
			Host       string
			EntryPorts []struct {
				Cluster       string
				Service, Port json.Number
			}
			Synthetic []struct {
				In, Of, Pod string
				Addr        netip.Addr
			}
		}
	}
	var ports, pods int
	eventually(t, "the debug view shows entry ports and synthetic addresses", func() bool {
		d.get(t, "/debug/snapshot", &snapshot)
		ports, pods = 0, 0
		shown := false
		for _, s := range snapshot.Services {
			for _, p := range s.EntryPorts {
				shown = shown || s.Host == "web-0.kill-1.svc.clusterset.local" && p.Cluster == "east" && string(p.Service) == port && string(p.Port) == at
				if p.Cluster == "east" {
					ports++
				}
			}
			for _, a := range s.Synthetic {
				if a.In == "east" {
					pods++
				}
			}
		}
		return shown && pods > 0
	})
	own := snapshot.Clusters[slices.IndexFunc(snapshot.Clusters, func(c shownCluster) bool { return c.Name == "east" })]
	if len(own.Entries) != 1 || len(own.Inside) == 0 {
		t.Errorf("the debug view shows of east: %+v", own)
	}
	response, err := http.Get("http://" + d.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`isthmus_entry_ports{state="total"} 10000`, `isthmus_synthetic_addresses{state="total"} 65536`, "isthmus_imports 4", "isthmus_exports 2",
		`isthmus_entry_ports{state="used"} ` + strconv.Itoa(ports), `isthmus_synthetic_addresses{state="used"} ` + strconv.Itoa(pods),
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}
