package server

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Who is inside and who may call the entry gateway are told apart.
func TestDebugEntryFrom(t *testing.T) {
	s := federation.NewSnapshot(federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{"east": {
		Name: "east", Inside: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, EntryFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}}})
	text, err := json.Marshal(snapshotView(s))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Clusters []struct{ Inside, EntryFrom []string }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if c := got.Clusters; len(c) != 1 || len(c[0].Inside) != 1 || c[0].Inside[0] != "10.1.0.0/16" || len(c[0].EntryFrom) != 1 || c[0].EntryFrom[0] != "10.0.0.0/8" {
		t.Errorf("%s", text)
	}
}
