package federation

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/trust"
)

func checkpointExample(t testing.TB) Checkpoint {
	t.Helper()
	id, err := trust.ParseID("spiffe://cluster.local/ns/shop/sa/reviews")
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{
		Network:       "west",
		Gateways:      []string{"192.0.2.7:15443", "[2001:db8::7]:15443", "gw.example:15443"},
		ExportedSince: time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC),
		Ports:         []Port{{"http", 9080, ProtocolHTTP}, {"", 9090, ProtocolAuto}},
		Ready:         []CheckpointCount{{9080, Locality{"r1", "z1"}, 2}, {9080, Locality{}, 1}},
		Accounts:      []trust.ID{id},
		Plaintext:     []netip.Addr{netip.MustParseAddr("10.1.0.9")},
		Pods:          []CheckpointPod{{"db-0", id}, {"db-1", id}},
		NoEntry:       true,
	}
}

var compareIDs = cmp.Options{
	cmp.Comparer(func(a, b trust.ID) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestCheckpointComesBackAsItWas(t *testing.T) {
	want := checkpointExample(t)
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCheckpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareIDs, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestParseCheckpointRefuses(t *testing.T) {
	good, err := checkpointExample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"no object":        "[]",
		"no time":          `{"network":"west"}`,
		"unknown field":    strings.Replace(good, `"network"`, `"server":"x","network"`, 1),
		"text behind":      good + "{}",
		"port 0":           strings.Replace(good, `"number":9080`, `"number":0`, 1),
		"port 65536":       strings.Replace(good, `"number":9080`, `"number":65536`, 1),
		"unknown protocol": strings.Replace(good, `"protocol":"http"`, `"protocol":"quic"`, 1),
		"negative count":   strings.Replace(good, `"count":2`, `"count":-2`, 1),
		"gateway no port":  strings.Replace(good, `192.0.2.7:15443`, `192.0.2.7`, 1),
		"gateway port 0":   strings.Replace(good, `192.0.2.7:15443`, `192.0.2.7:0`, 1),
		"bad account":      strings.Replace(good, `/sa/reviews`, `/sa/../x`, 1),
		"pod no name":      strings.Replace(good, `"db-0"`, `""`, 1),
		"pod odd name":     strings.Replace(good, `"db-0"`, `"db_0"`, 1),
		"pods not sorted":  strings.Replace(good, `"db-0"`, `"db-2"`, 1),
		"pod twice":        strings.Replace(good, `"db-0"`, `"db-1"`, 1),
		"pod no account":   strings.Replace(good, `"pods":[{"name":"db-0","account":"spiffe`, `"pods":[{"name":"db-0","account":"x`, 1),
		"too many pods":    strings.Replace(good, `"pods":[`, `"pods":[`+manyPods(MaxCheckpointPods), 1),
		"too long":         good + strings.Repeat(" ", MaxCheckpointBytes),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseCheckpoint(text); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// manyPods is a list of n pods that sort before those of the example.
func manyPods(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"name":"a-%04d","account":"spiffe://cluster.local/ns/shop/sa/a"},`, i)
	}
	return b.String()
}

// A checkpoint of before pods were in it stays readable.
func TestParseOldCheckpoint(t *testing.T) {
	c, err := ParseCheckpoint(`{"network":"west","exportedSince":"2026-11-21T02:00:00Z","headless":true,"ready":[{"port":1,"count":1}]}`)
	if err != nil || len(c.Pods) > 0 || c.NoEntry || len(c.Ready) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	good, _ := checkpointExample(f).Encode()
	f.Add(good)
	f.Add(`{"exportedSince":"2026-11-21T02:00:00Z","ready":[{"port":1,"count":1}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			return // grew beyond the limit by escaping
		}
		if _, err := ParseCheckpoint(again); err != nil {
			t.Errorf("own encoding refused: %v", err)
		}
	})
}
