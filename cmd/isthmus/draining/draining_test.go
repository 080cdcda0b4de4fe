package draining

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

func TestCheckSteps(t *testing.T) {
	for _, good := range [][]int{{100}, {10, 25, 50, 100}, {1, 99, 100}} {
		if err := CheckSteps(good); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range [][]int{nil, {50}, {0, 100}, {-5, 100}, {50, 50, 100}, {60, 40, 100}, {50, 101}, {100, 100}} {
		if err := CheckSteps(bad); !errors.Is(err, ErrSteps) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// imported is an import with ready endpoints by exporter.
func imported(name, kind, localName string, ready map[string]uint32, to map[string][]string) importview.Import {
	i := importview.Import{Namespace: "shop", Name: name, Type: kind}
	m := importview.Importer{Cluster: "west"}
	for cluster, n := range ready {
		i.Exporters = append(i.Exporters, importview.Exporter{Cluster: cluster, LocalName: localName, To: to[cluster]})
		m.Sources = append(m.Sources, importview.Source{Cluster: cluster, Endpoints: n})
	}
	i.Importers = []importview.Importer{m}
	return i
}

// What moves, what stays and why, and what is refused without --force.
func TestJudgeImport(t *testing.T) {
	for name, tt := range map[string]struct {
		i     importview.Import
		moves bool
		why   string
		doubt string
	}{
		"others suffice":                 {imported("a", "ClusterSetIP", "", map[string]uint32{"west": 1, "east": 1}, nil), true, whyName, ""},
		"local names fail over":          {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 1, "east": 1}, nil), true, "", ""},
		"others have fewer":              {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 3, "east": 1, "north": 1}, nil), true, "", "shop/a: fewer endpoints are ready elsewhere (1 in east, 1 in north)"},
		"nobody else":                    {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 1, "east": 0}, nil), false, whyAlone, ""},
		"the only other is not reached":  {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 1, "far": 5}, nil), false, whyAlone, ""},
		"the only other is for a third":  {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 1, "east": 5}, map[string][]string{"east": {"north"}}), false, whyAlone, ""},
		"the other is for this one, too": {imported("a", "ClusterSetIP", "failover", map[string]uint32{"west": 1, "east": 5}, map[string][]string{"east": {"north", "west"}}), true, "", ""},
		"headless":                       {imported("a", "Headless", "", map[string]uint32{"west": 1, "east": 5}, nil), false, whyHeadless, ""},
		"nothing is ready here":          {imported("a", "ClusterSetIP", "", map[string]uint32{"west": 0, "east": 5}, nil), false, "", ""},
		"it is not exported by this one": {imported("a", "ClusterSetIP", "", map[string]uint32{"east": 5}, nil), false, "", ""},
	} {
		p := &Plan{Cluster: "west", stays: map[string]Stay{}}
		p.judgeImport(tt.i, map[string]v1alpha1.LinkState{"east": v1alpha1.LinkConnected, "north": v1alpha1.LinkConnected})
		if moves := slices.Contains(p.Moves, "shop/a"); moves != tt.moves || p.stays["shop/a"].Why != tt.why || p.stays["shop/a"].Partly != (tt.why == whyName) {
			t.Errorf("%s: moves %v, stays %+v", name, moves, p.stays)
		}
		err := p.Safe(false)
		if (err != nil) != (tt.doubt != "") || err != nil && (!errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), tt.doubt) || !strings.Contains(Next(err), "--force")) {
			t.Errorf("%s: %v, next %q", name, err, Next(err))
		}
		if err := p.Safe(true); err != nil {
			t.Errorf("%s with --force: %v", name, err)
		}
	}
}

const metricsPage = `# TYPE istio_requests_total counter
istio_requests_total{reporter="source",destination_cluster="west",destination_service="echo.shop.svc.clusterset.local",source_workload="web",source_workload_namespace="shop",response_code="200"} 7
istio_requests_total{reporter="source",destination_cluster="west",destination_service="echo.shop.svc.clusterset.local",source_workload="web",source_workload_namespace="shop",response_code="503"} 1
istio_requests_total{reporter="source",destination_cluster="east",destination_service="echo.shop.svc.clusterset.local",source_workload="web",source_workload_namespace="shop"} 100
istio_requests_total{reporter="source",destination_cluster="west",destination_service="unknown",source_workload="web",source_workload_namespace="shop"} 9
istio_requests_total{reporter="destination",source_cluster="west",destination_workload="web",destination_workload_namespace="shop"} 50
istio_requests_total{reporter="destination",source_cluster="east",destination_workload="web",destination_workload_namespace="shop"} 3
istio_requests_total{reporter="destination",source_cluster="unknown",destination_workload="web",destination_workload_namespace="shop"} 2
# TYPE istio_tcp_connections_opened_total counter
istio_tcp_connections_opened_total{reporter="destination",source_cluster="east",destination_workload="web",destination_workload_namespace="shop",response_flags="-"} 5
# TYPE istio_tcp_connections_closed_total counter
istio_tcp_connections_closed_total{reporter="destination",source_cluster="east",destination_workload="web",destination_workload_namespace="shop",response_flags="DC"} 4
`

const builtinPage = `[{"name":"outbound|80||echo.shop.svc.clusterset.local","connections":9,"hosts":[{"cluster":"west","active":2},{"cluster":"east","active":4}]},
 {"name":"p80.echo.shop.sni.isthmus.internal","connections":3},{"name":"passthrough","connections":8,"hosts":[{"cluster":"","active":5}]}]`

const envoyPage = `{"cluster_statuses":[{"name":"p80.echo.shop.sni.isthmus.internal","host_statuses":[{"stats":[{"name":"cx_active","value":"2"},{"name":"rq_active","value":"7"}]},{"stats":[{"name":"cx_active","value":"1"}]}]}]}`

// A proxy's pages, of either data plane: what own callers do is told by them, what
// others do by the callee, and of a gateway only what it passes on counts.
func TestScrape(t *testing.T) {
	clusters := builtinPage
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stats/prometheus":
			fmt.Fprint(w, metricsPage)
		case "/clusters":
			fmt.Fprint(w, clusters)
		}
	}))
	defer server.Close()
	tunnel := &cluster.Tunnel{Addr: strings.TrimPrefix(server.URL, "http://")}
	got, err := scrape(t.Context(), tunnel, "west", false)
	if err != nil {
		t.Fatal(err)
	}
	own := flow{Target: "echo.shop.svc.clusterset.local", From: "shop/web", Source: true}
	want := counts{
		requests: map[flow]float64{own: 8, {Target: "shop/web", From: "east"}: 3, {Target: "shop/web"}: 2},
		open:     map[flow]float64{{Target: "shop/web", From: "east"}: 1, {Target: own.Target, From: underWay, Source: true}: 2},
	}
	if fmt.Sprint(got.requests, got.open, len(got.passing)) != fmt.Sprint(want.requests, want.open, 0) {
		t.Errorf("sidecar: %v %v %v\nwant %v %v", got.requests, got.open, got.passing, want.requests, want.open)
	}
	for _, page := range []string{builtinPage, envoyPage} {
		clusters = page
		if got, err = scrape(t.Context(), tunnel, "west", true); err != nil || len(got.requests)+len(got.open) > 0 || len(got.passing) != 1 || got.passing["p80.echo.shop.sni.isthmus.internal"] != 3 {
			t.Errorf("gateway: %+v, %v", got, err)
		}
	}
	for _, page := range []string{"", "{", "[1]", "no JSON"} {
		clusters = page
		if _, err = scrape(t.Context(), tunnel, "west", true); err == nil {
			t.Errorf("page %q is taken", page)
		}
	}
}

// Whether what is left moves depends on who serves what is called, and by what name.
func TestLeft(t *testing.T) {
	w := &watcher{
		plan: &Plan{Cluster: "west", Moves: []string{"shop/echo", "shop/both"}, stays: map[string]Stay{
			"shop/echo":  {Service: "shop/echo", Why: whyName, Partly: true},
			"shop/alone": {Service: "shop/alone", Why: whyAlone},
			"shop/db":    {Service: "shop/db", Why: whyHeadless},
		}},
		services: map[string][]string{"shop/echo-1": {"shop/echo"}, "shop/alone-1": {"shop/alone"}, "shop/shared-1": {"shop/alone", "shop/both"}, "shop/none-1": nil},
	}
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	}
	own := func(host string) flow { return flow{Target: host, From: "shop/web", Source: true} }
	for name, tt := range map[string]struct {
		got, want Left
	}{
		"own callers of what moves":      {w.left(pod("web-1"), own("echo.shop.svc.clusterset.local"), 1, 0), Left{Service: "shop/echo"}},
		"by its local name":              {w.left(pod("web-1"), own("echo.shop.svc.cluster.local"), 1, 0), Left{Service: "shop/echo", Stays: whyName}},
		"by a local name that goes":      {w.left(pod("web-1"), own("both.shop.svc.cluster.local"), 1, 0), Left{Service: "shop/both"}},
		"by a local name of its own":     {w.left(pod("web-1"), own("own.shop.svc.cluster.local"), 1, 0), Left{Service: "shop/own", Stays: whyLocal}},
		"of what is there alone":         {w.left(pod("web-1"), own("alone.shop.svc.clusterset.local"), 1, 0), Left{Service: "shop/alone", Stays: whyAlone}},
		"of a headless one":              {w.left(pod("web-1"), own("db.shop.svc.clusterset.local"), 1, 0), Left{Service: "shop/db", Stays: whyHeadless}},
		"others of what moves":           {w.left(pod("echo-1"), flow{Target: "shop/echo-v1", From: "east"}, 1, 0), Left{Service: "shop/echo"}},
		"others of what is there alone":  {w.left(pod("alone-1"), flow{Target: "shop/alone-v1", From: "east"}, 1, 0), Left{Service: "shop/alone", Stays: whyAlone}},
		"others of a pod of both kinds":  {w.left(pod("shared-1"), flow{Target: "shop/shared", From: "east"}, 1, 0), Left{Service: "shop/shared"}},
		"others of a pod of no service":  {w.left(pod("none-1"), flow{Target: "shop/none", From: "east"}, 1, 0), Left{Service: "shop/none"}},
		"a gateway for what moves":       {w.passing("p80.echo.shop.sni.isthmus.internal", 2), Left{Service: "shop/echo"}},
		"a gateway for one there alone":  {w.passing("p80.alone.shop.sni.isthmus.internal", 2), Left{Service: "shop/alone", Stays: whyAlone}},
		"a gateway for a headless's pod": {w.passing("db-0.west.pod.p80.db.shop.sni.isthmus.internal", 2), Left{Service: "shop/db", Stays: whyHeadless}},
	} {
		if tt.got.Service != tt.want.Service || tt.got.Stays != tt.want.Stays || tt.got.From == "" {
			t.Errorf("%s: %+v, want %+v", name, tt.got, tt.want)
		}
	}
	if plain := w.left(pod("echo-1"), flow{Target: "shop/echo-v1"}, 1, 0); plain.Stays == "" || plain.From != "pods without a sidecar" {
		t.Errorf("a caller without a sidecar: %+v", plain)
	}
}

// Requests of all looks count, and connections of the last alone; those on which
// nothing is asked are about to end.
func TestSettled(t *testing.T) {
	asked, open := Left{Service: "shop/a", From: "x", Requests: 2, Connections: 3}, Left{Service: "shop/b", From: "x", Connections: 4}
	ended := open
	ended.Service = "shop/c"
	got := settled([]Left{asked, open, ended, asked, open}, []Left{asked, open})
	if want := []Left{{Service: "shop/a", From: "x", Requests: 4, Connections: 3}, open}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if idle(got) || !idle([]Left{open}) || idle(nil) {
		t.Error("idle is what has connections and no requests")
	}
}
