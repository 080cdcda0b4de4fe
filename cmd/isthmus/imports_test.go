package main

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
)

// What people are told of an import: who exports it to whom, whose word counts, and by which address each endpoint is reached.
func TestPrintImports(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	i := importview.Import{
		Namespace: "shop", Name: "checkout", Hostname: "checkout.shop.svc.clusterset.local", Type: "ClusterSetIP", Winner: "west",
		Ports:  []importview.Port{{Name: "http", Protocol: "TCP", Number: 80, Clusters: []string{"north", "west"}, Winner: "west"}},
		Fields: []importview.Field{{Name: "sessionAffinity", Value: "None", Winner: "west", Against: []importview.Opinion{{Cluster: "north", Value: "ClientIP 9s"}}}},
		Exporters: []importview.Exporter{
			{Cluster: "west", Network: "net-west", Since: now.Add(-time.Hour), Valid: "True", Ready: "True", To: []string{"east", "south"}, LocalName: "failover"},
			{Cluster: "north", Network: "net-north", Since: now.Add(-time.Minute), Entry: "refuse"},
		},
		Importers: []importview.Importer{{
			Cluster: "east", Since: now.Add(-time.Minute), IPs: []string{"10.11.0.9"}, Ready: "True", Winner: "north",
			Sources: []importview.Source{
				{Cluster: "north", How: importview.HowGateway, Endpoints: 2, Gateways: []string{"192.0.2.2:15443"}, Entry: &importview.Entry{Refused: true}},
				{Cluster: "west", How: importview.HowGateway, Endpoints: 3, Gateways: []string{"192.0.2.1:15443"}, Entry: &importview.Entry{
					Gateways: []string{"10.10.0.7"}, Ports: []importview.EntryPort{{Port: 80, At: 20001, Ready: true}, {Port: 81, At: 20002}},
				}, Synthetic: []importview.Address{{Address: "240.241.0.4", Pod: "db-0", Ready: true}}},
			},
		}},
		Conflicts: []importview.Conflict{{Reason: "SessionAffinityConflict", Message: "sessionAffinity differ", Seen: []string{"north"}}},
	}
	report := importview.Report{Time: now, Imports: []importview.Import{i}}
	for detail, want := range map[bool][]string{
		false: {"west (3) to east+south, north (2)", "SessionAffinityConflict"},
		true: {
			"west east,south net-west 1h0m0s ago 3 True True allow failover -", "north all net-north 1m0s ago 2 - - refuse local -", "80/TCP http north, west west",
			"sessionAffinity None west north: ClientIP 9s", "in east it is as north says", "conflict SessionAffinityConflict: sessionAffinity differ (says north)",
			"gateway 192.0.2.2:15443; without a sidecar: refused by the export", "gateway 192.0.2.1:15443; without a sidecar: the entry gateway",
			"east west entry gateway 10.10.0.7 port 20001 true port 80 of pods without a sidecar", "10.10.0.7 port 20002 false port 81 of pods without a sidecar; stands by",
			"db-0 240.241.0.4 true stands for the pod",
		},
	} {
		var out strings.Builder
		if err := printImports(&out, report, detail); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(out.String()), " ")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("detail %v: no %q in\n%s", detail, w, out.String())
			}
		}
	}
}
